"""A process in the place of Triton's Python stub: runs NAME/1/model.py of a model repository and answers requests, one JSON object.

It is started with `python -I -S`: it can import what lies in the model's folder and the folders it is given (numpy, the engine's
runtime and the stand-in for Triton's module), and nothing else.
"""

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def main() -> None:
    asked = json.load(sys.stdin)
    repository, name = Path(asked["repository"]), asked["model"]
    # As Triton does: behind what is there already, and the module's name begins with the version.
    sys.path += [*asked["paths"], str(repository / name / "1"), str(repository / name)]
    import triton_python_backend_utils as triton

    seen: list[list[int]] = []
    triton.engines[f"{name}_engine"] = _engine(repository / f"{name}_engine" / "1", asked, seen)
    model = importlib.import_module("1.model").TritonPythonModel()
    model.initialize({"model_name": name, "model_version": "1", "model_repository": str(repository / name)})
    requests = [_request(triton, columns) for columns in asked["requests"]]
    try:
        answers = [_answer(response) for response in model.execute(requests)]
    except triton.TritonModelException as error:
        answers = [{"failure": str(error)}]
    modules = sorted({module.split(".")[0] for module in sys.modules})
    json.dump({"answers": answers, "shapes": seen, "modules": modules}, sys.stdout)


def _request(triton: Any, columns: Mapping[str, Sequence[str]]) -> Any:
    import numpy as np

    tensors = []
    for name, texts in columns.items():
        encoded = np.array([text.encode("utf-8", "surrogateescape") for text in texts], np.object_)
        tensors.append(triton.Tensor(name, encoded[:, None]))
    return triton.InferenceRequest(inputs=tensors)


def _answer(response: Any) -> dict[str, Any]:
    if response.has_error():
        return {"error": response.error().message()}
    arrays = {name: tensor.as_numpy() for name, tensor in response.tensors.items()}
    return {
        name: {
            "dtype": "BYTES" if array.dtype.hasobject else str(array.dtype),
            "shape": array.shape,
            "data": [value.decode() if isinstance(value, bytes) else float(value) for value in array.ravel()],
        }
        for name, array in arrays.items()
    }


def _engine(folder: Path, asked: Mapping[str, Any], seen: list[list[int]]) -> Callable[..., dict[str, Any]]:
    """The engine's file, and the checks that Triton and its backend make of what comes: names, dtypes, dimensions and the batch."""
    run = _openvino(folder) if (folder / "model.xml").exists() else _onnxruntime(folder / asked["file"])

    def call(feeds: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
        assert set(feeds) == set(asked["inputs"]), f"got the inputs {sorted(feeds)}"
        assert set(outputs) <= set(asked["outputs"]), f"asked for the outputs {outputs}"
        for name, array in feeds.items():
            dtype, dims = asked["inputs"][name]
            shape = [-1, *dims] if asked["max_batch_size"] else dims
            assert str(array.dtype) == dtype and array.flags.c_contiguous, f"{name} is {array.dtype}"
            assert len(array.shape) == len(shape), f"{name} has the shape {array.shape}"
            assert asked["max_batch_size"] == 0 or 1 <= len(array) <= asked["max_batch_size"], f"the batch is {len(array)}"
            assert all(wanted in (-1, size) for wanted, size in zip(shape, array.shape, strict=True)), f"{name} has the shape {array.shape}"
            is_taken = not asked["profiles"] or any(_fits(array.shape, profile) for profile in asked["profiles"])
            assert is_taken, f"no profile for {array.shape}"
        seen.append(list(next(iter(feeds.values())).shape))
        results = run(feeds)
        return {name: results[name] for name in outputs}

    return call


def _fits(shape: Sequence[int], profile: Sequence[Sequence[int]]) -> bool:
    return all(low <= size <= high for size, (low, high) in zip(shape, profile, strict=True))


def _onnxruntime(file: Path) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _openvino(folder: Path) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    import openvino

    compiled = openvino.Core().compile_model(str(folder / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda feeds: {port.any_name: value for port, value in compiled(dict(feeds)).items()}


if __name__ == "__main__":
    main()
