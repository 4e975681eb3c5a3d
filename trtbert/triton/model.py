"""Texts -> answers in Triton's Python backend: tokenize, have Triton run the engine, answer as `trtbert predict` does.

`trtbert triton` copies this file into the model repository as NAME/1/model.py; `vendored` beside it holds all that it imports but numpy
and Triton's own module. One call of `execute` takes the requests that Triton's dynamic batcher put together, sorts their texts by
length and runs them in batches that the engine's profiles take, so that a text is padded to its neighbours and not to the longest.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as triton

_FOLDER = Path(__file__).parent
sys.path.insert(0, str(_FOLDER / "vendored"))

from trtbert.errors import TrtbertError  # noqa: E402
from trtbert.package import open_package  # noqa: E402
from trtbert.predictor import Job, Predictor  # noqa: E402
from trtbert.predictor.answer_size import check_answer_size  # noqa: E402
from trtbert.triton.tensors import ENGINE_SUFFIX, arrays_from, inputs_of, texts_from  # noqa: E402

_MAX_TOKENS = 32768
"""Of the windows of one request's questions, as of a request to `trtbert serve`."""


class TritonEngine:
    """The engine's own Triton model, called from this one (business logic scripting)."""

    inputs = outputs = ()  # What they are stands in the manifest; nothing asks here.

    def __init__(self, model: str, outputs: Sequence[str]) -> None:
        self._model = model
        self._outputs = list(outputs)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Raises TritonModelException with Triton's message where the engine fails."""
        request = triton.InferenceRequest(
            model_name=self._model,
            requested_output_names=self._outputs,
            inputs=[triton.Tensor(name, array) for name, array in feeds.items()],
            preferred_memory=triton.PreferredMemory(triton.TRITONSERVER_MEMORY_CPU, 0),
        )
        response = request.exec()
        if response.has_error():
            raise triton.TritonModelException(f"{self._model}: {response.error().message()}")
        return {name: triton.get_output_tensor_by_name(response, name).as_numpy() for name in self._outputs}


class TritonPythonModel:
    """One instance, in a process of its own."""

    def initialize(self, args: Mapping[str, str]) -> None:
        package = open_package(_FOLDER)
        facts = package.manifest.model
        engine = TritonEngine(args["model_name"] + ENGINE_SUFFIX, [output.name for output in facts.outputs])
        self._task = facts.task
        self._predictor = Predictor(package, engine)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response for each request; a wrong text is the error of its own request only."""
        responses: dict[int, Any] = {}
        jobs: dict[int, Job] = {}
        for index, request in enumerate(requests):
            try:
                jobs[index] = self._job(request)
            except TrtbertError as error:
                responses[index] = triton.InferenceResponse(error=triton.TritonError(str(error)))
        for index, answers in self._answers(jobs).items():
            arrays = arrays_from(self._task, answers)
            responses[index] = triton.InferenceResponse([triton.Tensor(name, array) for name, array in arrays.items()])
        return [responses[index] for index in range(len(requests))]

    def _job(self, request: Any) -> Job:
        tensors = {field.name: triton.get_input_tensor_by_name(request, field.name) for field in inputs_of(self._task)}
        texts = texts_from({name: tensor.as_numpy() for name, tensor in tensors.items() if tensor is not None})
        is_reader = self._task == "question-answering"
        options = {"max_windows": max(1, _MAX_TOKENS // self._predictor.encoder.max_length)} if is_reader else {}
        job = self._predictor.job(texts, **options)
        check_answer_size(self._predictor.manifest.model, job, len(texts), options)
        return job

    def _answers(self, jobs: Mapping[int, Job]) -> dict[int, list[Any]]:
        """Run the encodings of all jobs together."""
        places = [(index, place) for index, job in jobs.items() for place in range(len(job.encodings))]
        kept: dict[int, list[Any]] = {index: [None] * len(job.encodings) for index, job in jobs.items()}
        for number, row in self._predictor.encoder.rows([jobs[index].encodings[place] for index, place in places]):
            index, place = places[number]
            kept[index][place] = jobs[index].take(place, row)
        return {index: job.finish(kept[index]) for index, job in jobs.items()}
