"""A manifest -> the config.pbtxt of the model that clients call and of the engine behind it."""

from collections.abc import Mapping
from typing import Any

from trtbert.config import Profile
from trtbert.errors import UnsupportedError
from trtbert.package import Manifest, TensorFacts
from trtbert.triton.pbtxt import Word
from trtbert.triton.tensors import Field, inputs_of, outputs_of

BACKENDS = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
_DTYPES = {"int32": "INT32", "int64": "INT64", "float32": "FP32", "float16": "FP16"}
_BATCHES_AHEAD = 4
"""Full batches of the engine that are gathered and sorted by length together."""
_DELAY_MICROSECONDS = 500
"""That a request waits for others where a GPU answers; on a CPU nothing waits, as in `trtbert serve`."""
_TIMEOUT_MICROSECONDS = 30_000_000
_MAX_QUEUE = 1024
_LATEST = {"latest": {"num_versions": 1}}


def backend_of(manifest: Manifest) -> str:
    """Raises UnsupportedError for a runtime that Triton has no backend for."""
    if manifest.runtime not in BACKENDS:
        raise UnsupportedError(
            f"Triton has no backend for {manifest.runtime}; it has one for {', '.join(BACKENDS)}. "
            "Compile with --runtime tensorrt on the GPU's machine, or with --target cuda or cpu."
        )
    return BACKENDS[manifest.runtime]


def profiles_of(manifest: Manifest) -> tuple[Profile, ...]:
    """What bounds the batches that the engine is given; one that takes every shape is given those of the default profile."""
    return manifest.profiles or (Profile(),)


def texts_config(name: str, manifest: Manifest) -> dict[str, Any]:
    """Of the model `name`: texts in, answers out, in Python."""
    task, width = manifest.model.task, manifest.model.outputs[0].shape[-1]
    profiles, is_cpu = profiles_of(manifest), manifest.target == "cpu"
    sizes = {size for profile in profiles for size in (profile.batch_size.opt, profile.batch_size.max)}
    policy = {"timeout_action": Word("REJECT"), "default_timeout_microseconds": _TIMEOUT_MICROSECONDS, "max_queue_size": _MAX_QUEUE}
    return {
        "name": name,
        "backend": "python",
        "max_batch_size": _BATCHES_AHEAD * _max_batch(profiles),
        "version_policy": _LATEST,
        "input": [_field(field) for field in inputs_of(task)],
        "output": [_field(field) for field in outputs_of(task, width if isinstance(width, int) else 1)],
        "dynamic_batching": {
            "preferred_batch_size": sorted(sizes),
            "max_queue_delay_microseconds": 0 if is_cpu else _DELAY_MICROSECONDS,
            "default_queue_policy": policy,
        },
        # Beside a GPU, one process tokenizes while the other's batch runs.
        "instance_group": [{"count": 1 if is_cpu else 2, "kind": Word("KIND_CPU")}],
    }


def engine_config(name: str, manifest: Manifest) -> dict[str, Any]:
    """Of the model `name`: token ids in, the graph's outputs out. It batches nothing: what calls it has done that.

    OpenVINO's backend fixes the batch to max_batch_size, so it has none, and the batch is a dimension like another.
    """
    has_batch = manifest.runtime != "openvino"
    is_cpu = manifest.target == "cpu"
    group: dict[str, Any] = {"count": 1, "kind": Word("KIND_CPU" if is_cpu else "KIND_GPU")}
    if manifest.runtime == "tensorrt":  # Of several profiles, the backend takes what fits a batch best.
        group["profile"] = [str(index) for index in range(len(manifest.profiles))]
    config = {
        "name": name,
        "backend": backend_of(manifest),
        "max_batch_size": _max_batch(profiles_of(manifest)) if has_batch else 0,
        "version_policy": _LATEST,
        "input": [_tensor(tensor, has_batch) for tensor in manifest.model.inputs],
        "output": [_tensor(tensor, has_batch) for tensor in manifest.model.outputs],
        "instance_group": [group],
        "default_model_filename": manifest.engine,
    }
    return config | _parameters(manifest)


def _parameters(manifest: Manifest) -> dict[str, Any]:
    if manifest.runtime != "openvino":
        return {}
    return {"parameters": [{"key": "PERFORMANCE_HINT", "value": {"string_value": "LATENCY"}}]}


def _max_batch(profiles: tuple[Profile, ...]) -> int:
    return max(profile.batch_size.max for profile in profiles)


def _field(field: Field) -> Mapping[str, Any]:
    tensor = {"name": field.name, "data_type": Word(f"TYPE_{field.datatype}"), "dims": [field.size]}
    return tensor | ({"optional": True} if field.is_optional else {})


def _tensor(tensor: TensorFacts, has_batch: bool) -> Mapping[str, Any]:
    dims = [size if isinstance(size, int) else -1 for size in tensor.shape]
    return {"name": tensor.name, "data_type": Word(f"TYPE_{_DTYPES[tensor.dtype]}"), "dims": dims[1:] if has_batch else dims}
