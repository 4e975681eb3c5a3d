"""OUR STAND-IN for the module that Triton gives its Python models: the calls that trtbert/triton/model.py makes, and their checks.

It answers `InferenceRequest.exec` with `engines`, which the process of the test fills.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

TRITONSERVER_MEMORY_CPU = "cpu"
engines: dict[str, Callable[[Mapping[str, Any], Sequence[str]], dict[str, Any]]] = {}


class TritonModelException(Exception):  # Triton's name.
    pass


class TritonError:
    def __init__(self, message: str) -> None:
        self._message = message

    def message(self) -> str:
        return self._message


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        assert isinstance(name, str) and isinstance(array, np.ndarray)
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._array


class PreferredMemory:
    def __init__(self, kind: str, device: int) -> None:
        assert kind == TRITONSERVER_MEMORY_CPU and device == 0


class InferenceResponse:
    def __init__(self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None) -> None:
        self.tensors = {tensor.name(): tensor for tensor in output_tensors}
        self._error = error

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError:
        assert self._error is not None
        return self._error


class InferenceRequest:
    """Of a client, or of the model to its engine."""

    def __init__(
        self,
        *,
        inputs: Sequence[Tensor],
        requested_output_names: Sequence[str] = (),
        model_name: str = "",
        preferred_memory: PreferredMemory | None = None,
    ) -> None:
        self.tensors = {tensor.name(): tensor for tensor in inputs}
        self._model, self._asked = model_name, requested_output_names

    def exec(self) -> InferenceResponse:
        try:
            outputs = engines[self._model]({name: tensor.as_numpy() for name, tensor in self.tensors.items()}, self._asked)
        except Exception as error:  # As Triton does: whatever it is, the caller has it in the response.
            return InferenceResponse(error=TritonError(f"{type(error).__name__}: {error}"))
        return InferenceResponse([Tensor(name, array) for name, array in outputs.items()])


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return request.tensors.get(name)


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor | None:
    return response.tensors.get(name)
