"""In the place of Triton's ONNX Runtime backend, which the server of the tests has not: the engine's own file, run by ONNX Runtime."""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(os.environ["TRTBERT_TEST_PATH"])

import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args: Any) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        file = Path(__file__).with_name("model.onnx")
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def execute(self, requests: Any) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        feeds = {node.name: triton.get_input_tensor_by_name(request, node.name).as_numpy() for node in self._session.get_inputs()}
        arrays = self._session.run(self._outputs, feeds)
        return triton.InferenceResponse([triton.Tensor(name, array) for name, array in zip(self._outputs, arrays, strict=True)])
