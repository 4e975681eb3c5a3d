"""TensorRT-RTX engines of a small fused encoder, built with no GPU; and every way in which a build can fail."""

import importlib.util
import signal
import sys
from pathlib import Path

import onnx_ir as ir
import pytest

from tests.builders.fused import Encoder, fused_encoder
from trtbert.builders import trt
from trtbert.builders.lowering import lower_for_tensorrt
from trtbert.builders.targets import RTX_TARGETS
from trtbert.config import Precision, Profile, Range, Target
from trtbert.errors import InputError, UnsupportedError

pytestmark = [
    pytest.mark.tensorrt,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed: pip install 'trtbert[tensorrt-rtx]'"
    ),
]

PROFILE = Profile(batch_size=Range(min=1, opt=4, max=8), seq_len=Range(min=1, opt=16, max=64))
LONG_PROFILE = Profile(batch_size=Range(min=1, opt=1, max=1))
DTYPE = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}


@pytest.fixture(autouse=True)
def _logs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "logs"))


def lowered(folder: Path, precision: Precision, *, has_relative_bias: bool = False) -> Path:
    encoder = Encoder(heads=(2, 2), dtype=DTYPE[precision], has_relative_bias=has_relative_bias)
    model, records = lower_for_tensorrt(fused_encoder(encoder), "sm80")
    assert sum(record.lowering == "Attention" for record in records) == (0 if precision == "fp32" else 2)
    ir.save(model, folder / "lowered.onnx")
    return folder / "lowered.onnx"


def build(onnx: Path, target: Target, precision: Precision, profiles: tuple[Profile, ...] = (PROFILE,)) -> trt.BuiltTrt:
    plan = onnx.parent / "model.plan"
    return trt.build(onnx, plan, runtime="tensorrt-rtx", target=target, precision=precision, profiles=profiles, max_length=64)


def assert_nothing_left(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["logs", "lowered.onnx"]


@pytest.mark.parametrize("target", RTX_TARGETS)
def test_fp16_for_every_target(tmp_path: Path, target: Target) -> None:
    built = build(lowered(tmp_path, "fp16"), target, "fp16")
    assert built.path.stat().st_size > 100_000
    assert set(built.versions) == {"tensorrt-rtx", "polygraphy"} and all(built.versions.values())
    assert f"({target[2:-1]}, {target[-1]})" in built.log.read_text(), "the log does not say which GPU it was built for"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "lowered.onnx", "model.plan"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_precisions_from_ampere_on(tmp_path: Path, precision: Precision) -> None:
    assert build(lowered(tmp_path, precision), "sm80", precision).path.stat().st_size > 100_000


def test_relative_bias_and_two_profiles(tmp_path: Path) -> None:
    one = build(lowered(tmp_path, "fp16", has_relative_bias=True), "sm75", "fp16").path.stat().st_size
    built = build(lowered(tmp_path, "fp16", has_relative_bias=True), "sm75", "fp16", (PROFILE, LONG_PROFILE))
    assert built.path.stat().st_size > one
    assert "Profile 1" in built.log.read_text()


def test_fp32_for_turing_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"FP32 GEMM is not supported.*use --precision fp16"):
        build(tmp_path / "there-is-no-such.onnx", "sm75", "fp32")
    assert not list((tmp_path / "logs").iterdir())


def test_fp32_in_a_graph_for_turing_is_refused_by_the_builder(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no float32 matrix multiplication for this GPU; use --precision fp16") as caught:
        build(lowered(tmp_path, "fp32"), "sm75", "fp16")
    assert "FP32 GEMM is not supported" in str(caught.value), "the builder's own words are missing"
    assert (log := next((tmp_path / "logs").iterdir())).read_text() and str(log) in str(caught.value)
    assert_nothing_left(tmp_path)


def test_a_graph_that_cannot_be_parsed(tmp_path: Path) -> None:
    (tmp_path / "lowered.onnx").write_bytes(b"\x08\x0b\x12\xff\xff")
    with pytest.raises(UnsupportedError, match=r"built no engine for sm86: it refused the graph \(exit status 1\)"):
        build(tmp_path / "lowered.onnx", "sm86", "fp16")
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize(
    "ending,kind,words",
    [
        ("os.abort()", UnsupportedError, "died of signal SIGABRT on this graph"),
        ("os.kill(os.getpid(), 11)", UnsupportedError, "died of signal SIGSEGV on this graph"),
        ("os.kill(os.getpid(), 9)", UnsupportedError, "was killed, most often for want of memory"),
        ("raise MemoryError", UnsupportedError, "ran out of memory"),
        ("raise OSError(28, 'No space left on device')", InputError, "the disk is full"),
        ("pass", UnsupportedError, "exit status 0"),
    ],
)
def test_a_builder_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, kind: type[Exception], words: str) -> None:
    code = f"import os, sys; print('[E] the last words', file=sys.stderr, flush=True); {ending}"
    monkeypatch.setattr(trt, "_COMMAND", (sys.executable, "-c", code))
    with pytest.raises(kind, match=words) as caught:
        build(lowered(tmp_path, "fp16"), "sm86", "fp16")
    assert "the last words" in str(caught.value) and str(tmp_path / "logs") in str(caught.value)
    assert_nothing_left(tmp_path)


def test_a_killed_builder_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real child, stopped by a signal in the middle of its build."""
    start = "signal.setitimer(signal.ITIMER_REAL, 0.3); runpy.run_module('trtbert.builders.trt', run_name='__main__')"
    code = f"import runpy, signal; {start}"
    monkeypatch.setattr(trt, "_COMMAND", (sys.executable, "-c", code))
    with pytest.raises(UnsupportedError, match=f"died of signal {signal.SIGALRM.name}"):
        build(lowered(tmp_path, "fp16"), "sm86", "fp16")
    assert_nothing_left(tmp_path)
