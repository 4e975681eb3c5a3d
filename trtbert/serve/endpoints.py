"""Every endpoint: method, path, the function that answers it, and its bodies."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel
from starlette.responses import Response

from trtbert.serve import inference, openai, pages
from trtbert.serve.bodies import (
    EmbeddingsRequest,
    EmbeddingsResponse,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelsResponse,
    PredictRequest,
    PredictResponse,
    RerankRequest,
    RerankResponse,
    ServerMetadata,
)
from trtbert.serve.call import Call
from trtbert.serve.service import Service


@dataclass(frozen=True)
class Endpoint:
    """Its name, in metrics and logs, is that of the function; its docstring the summary in the OpenAPI description."""

    method: Literal["GET", "POST"]
    path: str
    answer: Callable[[Service, Call], Awaitable[Response]]
    request: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    is_public: bool = False
    """Needs no API key."""

    @property
    def name(self) -> str:
        return self.answer.__name__


_MODEL = "/v2/models/{name}"
_VERSION = "/v2/models/{name}/versions/{version}"

ENDPOINTS = (
    Endpoint("POST", "/v1/embeddings", openai.embeddings, EmbeddingsRequest, EmbeddingsResponse),
    Endpoint("POST", "/v1/rerank", openai.rerank, RerankRequest, RerankResponse),
    Endpoint("POST", "/v1/predict", openai.predict, PredictRequest, PredictResponse),
    Endpoint("GET", "/v1/models", openai.models, None, ModelsResponse),
    Endpoint("GET", "/v2/health/live", inference.live, is_public=True),
    Endpoint("GET", "/v2/health/ready", inference.ready, is_public=True),
    Endpoint("GET", "/v2", inference.server, None, ServerMetadata),
    *(
        endpoint
        for path in (_MODEL, _VERSION)
        for endpoint in (
            Endpoint("GET", path, inference.model, None, ModelMetadata),
            Endpoint("GET", f"{path}/ready", inference.model_ready),
            Endpoint("POST", f"{path}/infer", inference.infer, InferRequest, InferResponse),
        )
    ),
    Endpoint("GET", "/metrics", pages.metrics),
    Endpoint("GET", "/openapi.json", pages.openapi),
    Endpoint("GET", "/docs", pages.docs),
    Endpoint("GET", "/", pages.index),
)
