"""The Open Inference Protocol v2 under /v2: Triton's and KServe's clients send texts as BYTES and get tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic_core import to_json
from starlette.responses import Response

from trtbert.serve.call import Call
from trtbert.serve.models import Model
from trtbert.serve.refusal import Refusal
from trtbert.serve.reply import json_reply
from trtbert.serve.service import Service
from trtbert.serve.tensors import VERSION, read_request, write_response
from trtbert.version import __version__


async def live(service: Service, call: Call) -> Response:
    """200 while the process answers."""
    return json_reply({"live": True})


async def ready(service: Service, call: Call) -> Response:
    """200 while requests are taken, 503 once the server is about to stop."""
    if service.is_draining:
        raise Refusal(503, "The server is stopping.", retry_after=1)
    return json_reply({"ready": True})


async def server(service: Service, call: Call) -> Response:
    """Name, version and extensions of the server."""
    return json_reply({"name": "trtbert", "version": __version__, "extensions": ["binary_tensor_data"]})


async def model(service: Service, call: Call) -> Response:
    """The tensors that a model takes and gives."""
    found = _model(service, call)
    return json_reply(
        {
            "name": found.name,
            "versions": [VERSION],
            "platform": f"trtbert_{found.predictor.manifest.runtime}",
            "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in _inputs(found)],
            "outputs": _outputs_metadata(found),
        }
    )


async def model_ready(service: Service, call: Call) -> Response:
    """200 for a model that is served, 404 for another."""
    _model(service, call)
    return await ready(service, call)


async def infer(service: Service, call: Call) -> Response:
    """Texts as BYTES -> the outputs of the model's metadata."""
    found = _model(service, call)
    asked, columns = read_request(call)
    answers = await service.answer(call, found, _rows(found, columns))

    def reply() -> Response:
        return write_response(asked, found, _outputs(found, answers.values))

    is_per_token = found.task in ("feature-extraction", "token-classification")
    return await service.off_loop((answers.num_tokens if is_per_token else len(answers.values)) * found.width, reply)


def _model(service: Service, call: Call) -> Model:
    if call.path_params.get("version", VERSION) != VERSION:
        raise Refusal(404, f"A model has the version {VERSION} only.")
    return service.model(call.path_params["name"])


def _inputs(model: Model) -> tuple[str, ...]:
    """Names of the inputs; of a classifier the second one, of a pair, may be left out and is not shown."""
    if model.task == "question-answering":
        return "question", "context"
    return ("text", "text_pair") if model.task == "text-ranking" else ("text",)


def _rows(model: Model, columns: dict[str, list[str]]) -> Sequence[Any]:
    """The texts, or pairs, that the columns hold."""
    names = ("text", "text_pair") if model.task == "text-classification" and "text_pair" in columns else _inputs(model)
    if set(columns) != set(names):
        raise Refusal(400, f"{model.name} takes the inputs {', '.join(_inputs(model))}, got {', '.join(columns)[:200]}.")
    chosen = [columns[name] for name in names]
    if len({len(column) for column in chosen}) > 1:
        raise Refusal(400, f"The inputs {', '.join(names)} must hold equally many texts.")
    return list(zip(*chosen, strict=True)) if len(chosen) > 1 else chosen[0]


def _outputs_metadata(model: Model) -> list[dict[str, Any]]:
    if model.task == "text-classification":
        return [{"name": "label", "datatype": "BYTES", "shape": [-1]}, {"name": "score", "datatype": "FP32", "shape": [-1]}]
    if model.task in ("sentence-similarity", "text-ranking"):
        shape = [-1] if model.width == 1 and model.task == "text-ranking" else [-1, model.width]
        return [{"name": _array_name(model), "datatype": "FP32", "shape": shape}]
    return [{"name": "answer", "datatype": "BYTES", "shape": [-1]}]


def _outputs(model: Model, answers: Sequence[Any]) -> dict[str, Any]:
    """As the metadata say: label and score, an array, or each answer as JSON."""
    if model.task == "text-classification":
        scores = np.array([answer["score"] for answer in answers], np.float32)
        return {"label": [answer["label"] for answer in answers], "score": scores}
    if model.task in ("sentence-similarity", "text-ranking"):
        return {_array_name(model): np.stack(answers)}
    plain = (answer.tolist() if hasattr(answer, "tolist") else answer for answer in answers)
    return {"answer": [to_json(answer, inf_nan_mode="null").decode() for answer in plain]}


def _array_name(model: Model) -> str:
    return model.predictor.manifest.model.outputs[0].name
