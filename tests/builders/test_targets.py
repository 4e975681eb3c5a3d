"""What each target takes, and the refusals of what it does not, with the advice in them."""

import subprocess
import sys

import pytest

from trtbert.builders import targets
from trtbert.builders.targets import check_available, check_combination, gpu_target, resolve, resolve_profiles
from trtbert.config import Profile, Range
from trtbert.errors import ConfigError, MissingRuntimeError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "gpu_target", lambda: None)


@pytest.mark.parametrize(
    "target,expected",
    [
        ("cpu", ("onnxruntime", "fp32", "native")),
        ("cuda", ("onnxruntime", "fp16", "native")),
        ("sm70", ("tensorrt", "fp16", "plugin")),
        ("sm75", ("tensorrt-rtx", "fp16", "native")),
        ("sm120", ("tensorrt-rtx", "fp16", "native")),
        ("sm90", ("tensorrt", "fp16", "native")),
        ("sm100", ("tensorrt", "fp16", "native")),
    ],
)
def test_auto(target: targets.Target, expected: tuple[str, str, str]) -> None:
    assert resolve(target) == expected


@pytest.mark.parametrize(
    "target,runtime,precision,reason",
    [
        ("sm70", "tensorrt-rtx", "fp16", r"does not support Volta; use --runtime tensorrt with TensorRT 10.4"),
        ("sm90", "tensorrt-rtx", "fp16", r"supports sm75, sm80, sm86, sm89, sm120 only; use --runtime tensorrt"),
        ("sm100", "tensorrt-rtx", "bf16", r"use --runtime tensorrt"),
        ("sm75", "tensorrt-rtx", "fp32", r"FP32 GEMM is not supported by TensorRT-RTX on Turing; use --precision fp16"),
        ("sm75", "tensorrt-rtx", "bf16", r"bf16 needs sm80 or later; use --precision fp16"),
        ("sm70", "tensorrt", "bf16", r"bf16 needs sm80 or later"),
        ("sm70", "tensorrt", "int8", r"Volta has no INT8 tensor cores, and FP16 is as fast there; use --precision fp16"),
        ("cpu", "onnxruntime", "fp16", r"use --precision fp32 or int8, or a GPU target for fp16"),
        ("cpu", "onnxruntime", "bf16", r"use --precision fp32 or int8, or a GPU target for bf16"),
        ("cpu", "openvino", "fp16", r"use --precision fp32 or int8, or a GPU target for fp16"),
        ("cuda", "onnxruntime", "bf16", r"use --precision fp16 or fp32"),
        ("cuda", "onnxruntime", "int8", r"does not support int8 on ONNX Runtime's CUDA provider; use --precision fp16 or fp32, .* sm75"),
        ("cpu", "tensorrt-rtx", "fp32", r"use --runtime onnxruntime or openvino, or a target such as sm86"),
        ("cuda", "tensorrt", "fp16", r"tensorrt builds for one GPU; use --runtime onnxruntime, or a target such as sm86"),
        ("cuda", "openvino", "fp32", r"for the CPU only; use --target cpu, or --runtime auto for this target"),
        ("sm86", "openvino", "int8", r"for the CPU only; use --target cpu, or --runtime auto for this target"),
        ("sm86", "onnxruntime", "fp16", r"use --target cuda, or --runtime tensorrt or tensorrt-rtx"),
    ],
)
def test_nonsense_is_refused(target: targets.Target, runtime: targets.Runtime, precision: targets.Precision, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason) as caught:
        check_combination(target, runtime, precision)
    assert f"--target {target} --runtime {runtime} --precision {precision}" in str(caught.value)
    with pytest.raises(UnsupportedError):
        resolve(target, runtime, precision)


@pytest.mark.parametrize("target", ["sm80", "sm86", "sm89", "sm120"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_rtx_takes_every_precision_from_ampere_on(target: targets.Target, precision: targets.Precision) -> None:
    assert resolve(target, "auto", precision) == ("tensorrt-rtx", precision, "native")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_a_cpu_takes(runtime: targets.Runtime, precision: targets.Precision) -> None:
    assert resolve("cpu", runtime, precision) == (runtime, precision, "native")


def test_int8_from_turing_on() -> None:
    assert resolve("sm75", "auto", "int8") == ("tensorrt-rtx", "int8", "native")
    assert resolve("sm90", "auto", "int8") == ("tensorrt", "int8", "native")


def test_a_missing_wheel_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "MODULES", dict.fromkeys(targets.MODULES, "no_such_module_here"))
    with pytest.raises(MissingRuntimeError, match=r"pip install 'trtbert\[tensorrt-rtx\]'"):
        check_available("sm86", "tensorrt-rtx")
    with pytest.raises(MissingRuntimeError, match=r"pip install 'trtbert\[tensorrt\]'"):
        check_available("sm70", "tensorrt")
    with pytest.raises(MissingRuntimeError, match=r"pip install 'trtbert\[openvino\]'"):
        check_available("cpu", "openvino")


def test_tensorrt_needs_the_gpu_it_builds_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "MODULES", dict.fromkeys(targets.MODULES, "json"))
    with pytest.raises(MissingRuntimeError, match=r"--target sm86 needs such a GPU, and this machine has none.* --runtime tensorrt-rtx"):
        check_available("sm86", "tensorrt")
    monkeypatch.setattr(targets, "gpu_target", lambda: "sm90")
    with pytest.raises(MissingRuntimeError, match=r"this machine has sm90. Build on a machine that has one.$"):
        check_available("sm70", "tensorrt")
    check_available("sm90", "tensorrt")


def test_profiles_take_their_lengths_from_the_model() -> None:
    given = Profile(seq_len=Range(min=2, opt=16, max=64))
    assert resolve_profiles([Profile(), given], 512) == (Profile(seq_len=Range(min=1, opt=128, max=512)), given)
    assert resolve_profiles([Profile()], 2)[0].seq_len == Range(min=1, opt=1, max=2)
    with pytest.raises(ConfigError, match="asks for 64 tokens, but the model takes at most 63"):
        resolve_profiles([given], 63)


def test_checking_imports_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "openvino", "numpy"]
    heavy += ["tensorrt", "tensorrt_rtx", "polygraphy"]
    code = f"import sys, trtbert.builders.targets; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("target", ["sm70", "sm75", "sm80", "sm86", "sm89", "sm90", "sm100", "sm120"])
def test_plugins_are_tensorrts(target: targets.Target) -> None:
    assert resolve(target, lowering="plugin") == ("tensorrt", "fp16", "plugin")
    assert resolve(target, "tensorrt", lowering="plugin", is_packed=True) == ("tensorrt", "fp16", "plugin")
    assert resolve(target, "tensorrt", lowering="native") == ("tensorrt", "fp16", "native")


@pytest.mark.parametrize(
    ("target", "runtime", "reason"),
    [
        ("sm75", "tensorrt-rtx", "TensorRT-RTX does not support plugins; use --runtime tensorrt"),
        ("cpu", "auto", "onnxruntime does not load TensorRT's plugins; leave --lowering out, or use a target such as sm75 with"),
        ("cpu", "openvino", "openvino does not load TensorRT's plugins"),
        ("cuda", "auto", "onnxruntime does not load TensorRT's plugins"),
    ],
)
def test_plugins_elsewhere_are_refused(target: targets.Target, runtime: targets.Runtime, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=f"--target {target} --runtime .* --lowering plugin: {reason}"):
        resolve(target, runtime, lowering="plugin")


@pytest.mark.parametrize("target", ["cpu", "cuda", "sm75", "sm90"])
def test_packing_needs_plugins(target: targets.Target) -> None:
    with pytest.raises(UnsupportedError, match="--packed: only the plugins compute attention without padding; use --packed with --runtime"):
        resolve(target, is_packed=True)
    with pytest.raises(UnsupportedError, match="--lowering native --packed: only the plugins"):
        resolve("sm70", lowering="native", is_packed=True)
    assert resolve("sm70", is_packed=True) == ("tensorrt", "fp16", "plugin")


def test_a_file_that_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.ctypes, "CDLL", lambda _: object())
    assert gpu_target() is None
