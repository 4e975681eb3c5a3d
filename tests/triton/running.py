"""A model repository -> its configurations, read by Triton's own protobufs, and answers of its models, in a bare Python process."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import openvino
import tritonclient
from google.protobuf import text_format

_DTYPES = {"TYPE_INT32": "int32", "TYPE_INT64": "int64", "TYPE_FP32": "float32", "TYPE_STRING": "BYTES"}
_HERE = Path(__file__).parent


def _model_config_pb2() -> Any:
    """Triton's definitions alone: the package that they lie in needs an older protobuf than ours, for its gRPC."""
    file = Path(tritonclient.__file__).parent / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PROTOBUFS = _model_config_pb2()


def read_config(folder: Path) -> Any:
    """A ModelConfig message; fails on a field or enum that Triton does not know."""
    return text_format.Parse((folder / "config.pbtxt").read_text(), PROTOBUFS.ModelConfig())


def tensors(fields: Any) -> dict[str, tuple[str, list[int]]]:
    """Numpy's dtype and the dims of each input or output."""
    return {field.name: (_DTYPES[PROTOBUFS.DataType.Name(field.data_type)], list(field.dims)) for field in fields}


def answer(
    repository: Path, name: str, requests: Sequence[Mapping[str, Sequence[str]]], *, bare: Path, profiles: Sequence[Any] = ()
) -> dict[str, Any]:
    """What one call of `execute` gives for the requests; `bare` is a folder to link numpy and the runtimes into."""
    engine = read_config(repository / f"{name}_engine")
    asked = {
        "repository": str(repository),
        "model": name,
        "requests": requests,
        "paths": [str(make_bare(bare)), str(_HERE / "triton_stand_in")],
        "inputs": tensors(engine.input),
        "outputs": list(tensors(engine.output)),
        "max_batch_size": engine.max_batch_size,
        "file": engine.default_model_filename,
        "profiles": profiles,
    }
    command = [sys.executable, "-I", "-S", "-B", str(_HERE / "triton_process.py")]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def make_bare(folder: Path) -> Path:
    """A folder that holds numpy and the runtimes of the engines alone."""
    for module in (numpy, onnxruntime, openvino):
        home = Path(module.__file__).parent
        for found in (home, home.with_name(f"{home.name}.libs")):
            if found.exists() and not (folder / found.name).exists():
                (folder / found.name).symlink_to(found)
    return folder
