"""The APIs under /v1: OpenAI's embeddings and list of models, reranking, and predictions of every task."""

import base64
from typing import Any

from starlette.responses import Response

from trtbert.runtime import Array
from trtbert.serve.bodies import Document, EmbeddingsRequest, Input, Pair, PredictRequest, Question, RerankRequest
from trtbert.serve.call import Call
from trtbert.serve.models import Model
from trtbert.serve.refusal import Refusal
from trtbert.serve.reply import json_reply
from trtbert.serve.service import Service
from trtbert.tasks import Task


async def embeddings(service: Service, call: Call) -> Response:
    """Embeddings of texts, as OpenAI's API gives them."""
    asked = call.parse(EmbeddingsRequest)
    model = _model_for(service, asked.model, "sentence-similarity", "/v1/embeddings")
    if asked.dimensions not in (None, model.width):
        raise Refusal(400, f"dimensions: this model's embeddings have {model.width}, got {asked.dimensions}.")
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    answers = await service.answer(call, model, texts)
    shown = _base64 if asked.encoding_format == "base64" else _plain

    def reply() -> Response:
        data = [{"object": "embedding", "index": i, "embedding": shown(vector)} for i, vector in enumerate(answers.values)]
        return json_reply({"object": "list", "model": model.name, "data": data, "usage": _usage(answers.num_tokens)})

    return await service.off_loop(len(texts) * model.width, reply)


async def rerank(service: Service, call: Call) -> Response:
    """Documents by how well they answer a query, as Cohere's and Jina's APIs give them."""
    asked = call.parse(RerankRequest)
    model = _model_for(service, asked.model, "text-ranking", "/v1/rerank")
    if model.width != 1:
        raise Refusal(400, f"{model.name} gives {model.width} scores for each document; ask /v1/predict for them.")
    documents = [document.text if isinstance(document, Document) else document for document in asked.documents]
    answers = await service.answer(call, model, [(asked.query, document) for document in documents])
    scores = [float(score) for score in answers.values]
    results: list[dict[str, Any]] = []
    for index in sorted(range(len(scores)), key=lambda index: -scores[index])[: asked.top_n]:
        shown = {"document": {"text": documents[index]}} if asked.return_documents else {}
        results.append({"index": index, "relevance_score": scores[index], **shown})
    return json_reply({"model": model.name, "results": results, "usage": _usage(answers.num_tokens)})


async def predict(service: Service, call: Call) -> Response:
    """What the offline predictor answers, for a model of any task."""
    asked = call.parse(PredictRequest)
    model = service.model(asked.model)
    texts = [asked.inputs] if isinstance(asked.inputs, str) else [_text(text) for text in asked.inputs]
    answers = await service.answer(call, model, texts, asked.options.model_dump(exclude_unset=True))

    def reply() -> Response:
        predictions = [_plain(value) for value in answers.values]
        return json_reply({"model": model.name, "task": model.task, "predictions": predictions, "usage": _usage(answers.num_tokens)})

    num_values = answers.num_tokens if model.task in ("feature-extraction", "token-classification") else len(answers.values)
    return await service.off_loop(num_values * model.width, reply)


async def models(service: Service, call: Call) -> Response:
    """The models that are served."""
    data = [
        {
            "id": model.name,
            "object": "model",
            "created": 0,
            "owned_by": "trtbert",
            "task": model.task,
            "max_length": model.encoder.max_length,
        }
        for model in service.models.values()
    ]
    return json_reply({"object": "list", "data": data})


def _model_for(service: Service, name: str, task: Task, path: str) -> Model:
    model = service.model(name)
    if model.task != task:
        raise Refusal(400, f"{path} needs a model of {task}, and {name} is one of {model.task}; ask /v1/predict.")
    return model


def _text(value: Input) -> Any:
    """As the predictor takes it."""
    if isinstance(value, Pair):
        return value.text, value.text_pair
    return (value.question, value.context) if isinstance(value, Question) else value


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _base64(vector: Array) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _usage(num_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
