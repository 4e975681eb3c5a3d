"""Which runtime and precision each target takes; nonsense is refused here, before any work and with nothing heavy imported."""

import ctypes
import importlib.util
from collections.abc import Sequence
from typing import Literal

from trtbert.config import LoweringName, Precision, Profile, Range, Runtime, Target
from trtbert.errors import ConfigError, MissingRuntimeError, UnsupportedError

RTX_TARGETS: tuple[Target, ...] = ("sm75", "sm80", "sm86", "sm89", "sm120")
"""The compute capabilities that TensorRT-RTX builds for, with no GPU at hand."""

MODULES: dict[Runtime, str] = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
}


def resolve(
    target: Target,
    runtime: Runtime | Literal["auto"] = "auto",
    precision: Precision | Literal["auto"] = "auto",
    lowering: LoweringName | Literal["auto"] = "auto",
    *,
    is_packed: bool = False,
) -> tuple[Runtime, Precision, LoweringName]:
    """What `auto` means for `target`; raises UnsupportedError for a combination that cannot work.

    A CPU gets ONNX Runtime: whether OpenVINO is faster is measured later, on the engines. A GPU gets TensorRT where it is installed
    and this machine has that GPU, or where plugins are asked for, else TensorRT-RTX where it supports the target.
    """
    if runtime == "auto":
        runtime = "tensorrt" if lowering == "plugin" and target not in ("cpu", "cuda") else _runtime(target)
    if precision == "auto":
        precision = "fp32" if target == "cpu" else "fp16"
    if lowering == "auto":
        lowering = "plugin" if target == "sm70" and runtime == "tensorrt" else "native"
    check_combination(target, runtime, precision, lowering, is_packed=is_packed)
    return runtime, precision, lowering


def check_combination(
    target: Target, runtime: Runtime, precision: Precision, lowering: LoweringName = "native", *, is_packed: bool = False
) -> None:
    """Raise UnsupportedError, with the reason and what to do instead, for a combination that cannot work."""
    reason = _runtime_reason(target, runtime) or _precision_reason(target, runtime, precision)
    if reason is not None:
        raise UnsupportedError(f"--target {target} --runtime {runtime} --precision {precision}: {reason}")
    if lowering == "plugin" and runtime != "tensorrt":
        raise UnsupportedError(f"--target {target} --runtime {runtime} --lowering plugin: {_plugin_reason(runtime)}")
    if is_packed and lowering != "plugin":
        raise UnsupportedError(
            f"--target {target} --runtime {runtime} --lowering {lowering} --packed: only the plugins compute attention without padding; "
            "use --packed with --runtime tensorrt --lowering plugin"
        )


def check_int8_lstms(target: Target, runtime: Runtime) -> None:
    """Raise UnsupportedError for a runtime that computes no LSTM in INT8."""
    if runtime == "onnxruntime":
        return
    name, advice = "TensorRT", "--precision fp16 (for sm80 or later), or --target cpu for INT8"
    if runtime == "openvino":
        name, advice = "OpenVINO", "--runtime onnxruntime"
    raise UnsupportedError(
        f"--target {target} --runtime {runtime} --precision int8: all that could be INT8 in this model is its LSTMs, and {name} has no "
        f"INT8 LSTM; use {advice}"
    )


def check_available(target: Target, runtime: Runtime) -> None:
    """Raise MissingRuntimeError where this machine cannot build for `target`: no such package, or no such GPU."""
    if importlib.util.find_spec(MODULES[runtime]) is None:
        extra = "compile" if runtime == "onnxruntime" else runtime
        raise MissingRuntimeError(f"The Python package {MODULES[runtime]!r} is not installed; install it: pip install 'trtbert[{extra}]'")
    if runtime != "tensorrt":
        return
    found = gpu_target()
    if found != target:
        advice = " or use --runtime tensorrt-rtx, which needs no GPU" if target in RTX_TARGETS else ""
        raise MissingRuntimeError(
            f"TensorRT builds an engine on the GPU that is to run it: --target {target} needs such a GPU, and this machine has "
            f"{found or 'none'}. Build on a machine that has one{advice}."
        )


def resolve_profiles(profiles: Sequence[Profile], max_length: int) -> tuple[Profile, ...]:
    """Profiles with every length given (by default 1 to `max_length` tokens, tuned for a quarter of it).

    Raises ConfigError where a profile asks for more tokens than the model takes.
    """
    resolved = []
    for profile in profiles:
        length = profile.seq_len or Range(min=1, opt=max(1, max_length // 4), max=max_length)
        if length.max > max_length:
            raise ConfigError(f"--seq-len asks for {length.max} tokens, but the model takes at most {max_length}; use a smaller maximum")
        resolved.append(profile.model_copy(update={"seq_len": length}))
    return tuple(resolved)


def gpu_target() -> str | None:
    """The target that the first GPU of this machine is, such as "sm86"; None where the driver or the GPU is missing."""
    try:
        return _first_gpu(ctypes.CDLL("libcuda.so.1"))
    except (OSError, AttributeError):  # No such file, or one that is no driver.
        return None


def _first_gpu(driver: ctypes.CDLL) -> str | None:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    for attribute, value in ((75, major), (76, minor)):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) != 0:
            return None
    return f"sm{major.value}{minor.value}"


def _runtime(target: Target) -> Runtime:
    if target in ("cpu", "cuda"):
        return "onnxruntime"
    if target not in RTX_TARGETS or (importlib.util.find_spec("tensorrt") is not None and gpu_target() == target):
        return "tensorrt"
    return "tensorrt-rtx"


def _runtime_reason(target: Target, runtime: Runtime) -> str | None:
    if target == "cpu":
        is_for_cpu = runtime in ("onnxruntime", "openvino")
        return None if is_for_cpu else f"{runtime} runs on no CPU; use --runtime onnxruntime or openvino, or a target such as sm86"
    if runtime == "openvino":
        return "OpenVINO packages are for the CPU only; use --target cpu, or --runtime auto for this target"
    if target == "cuda":
        return None if runtime == "onnxruntime" else f"{runtime} builds for one GPU; use --runtime onnxruntime, or a target such as sm86"
    if runtime == "onnxruntime":
        return "ONNX Runtime builds no engine for one GPU; use --target cuda, or --runtime tensorrt or tensorrt-rtx"
    if runtime == "tensorrt-rtx" and target == "sm70":
        return "TensorRT-RTX does not support Volta; use --runtime tensorrt with TensorRT 10.4, the last that does, on such a GPU"
    if runtime == "tensorrt-rtx" and target not in RTX_TARGETS:
        return f"TensorRT-RTX supports {', '.join(RTX_TARGETS)} only; use --runtime tensorrt on such a GPU"
    return None


def _plugin_reason(runtime: Runtime) -> str:
    if runtime == "tensorrt-rtx":
        return "TensorRT-RTX does not support plugins; use --runtime tensorrt"
    return f"{runtime} does not load TensorRT's plugins; leave --lowering out, or use a target such as sm75 with --runtime tensorrt"


def _precision_reason(target: Target, runtime: Runtime, precision: Precision) -> str | None:
    if target == "cpu" and precision not in ("fp32", "int8"):
        return f"{precision} is slower than fp32 on most CPUs; use --precision fp32 or int8, or a GPU target for {precision}"
    if target == "cuda" and precision == "bf16":
        return "ONNX Runtime's CUDA provider has too few bf16 kernels; use --precision fp16 or fp32"
    if target == "cuda" and precision == "int8":
        return (
            "trtbert does not support int8 on ONNX Runtime's CUDA provider; use --precision fp16 or fp32, or for int8 --target cpu "
            "or a TensorRT target, sm75 or later"
        )
    if target in ("sm70", "sm75") and precision == "bf16":
        return "bf16 needs sm80 or later; use --precision fp16"
    if target == "sm70" and precision == "int8":
        return "Volta has no INT8 tensor cores, and FP16 is as fast there; use --precision fp16"
    if target == "sm75" and runtime == "tensorrt-rtx" and precision == "fp32":
        return "FP32 GEMM is not supported by TensorRT-RTX on Turing; use --precision fp16"
    return None
