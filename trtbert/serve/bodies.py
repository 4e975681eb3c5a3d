"""The JSON that comes in and goes out, as pydantic models: requests are checked by them, the OpenAPI description is made of them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _whole(value: Any) -> Any:
    """2.0 is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class EmbeddingsRequest(_Request):
    """As OpenAI's: POST /v1/embeddings."""

    model: Name
    input: str | list[str]
    """A text or several; a text that is longer than the model takes is cut"""
    encoding_format: Literal["float", "base64"] = "float"
    """base64: the bytes of little-endian float32"""
    dimensions: Whole | None = None
    """Only the model's own number is taken"""
    user: str | None = None
    """Not used"""


class Usage(BaseModel):
    """Tokens that the model read."""

    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    """The embedding of the text at `index`."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsResponse(BaseModel):
    """One embedding a text."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: Usage


class Document(_Request):
    """A document as Cohere's clients send it."""

    text: str


class RerankRequest(_Request):
    """As Cohere's and Jina's: POST /v1/rerank."""

    model: Name
    query: str
    documents: list[str | Document]
    top_n: Whole | None = Field(default=None, ge=1)
    """The best so many; default: all"""
    return_documents: bool = False


class RerankResult(BaseModel):
    """How well the document at `index` answers the query."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class RerankResponse(BaseModel):
    """Best first."""

    model: str
    results: list[RerankResult]
    usage: Usage


class PredictOptions(_Request):
    """Those of the offline predictor for the model's task; another task's are refused."""

    top_k: Whole | None = Field(default=None, ge=1, le=1000)
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] = "simple"
    ignore_labels: list[str] = ["O"]
    max_answer_len: Whole = Field(default=15, ge=1, le=1000)
    handle_impossible_answer: bool = False
    doc_stride: Whole = Field(default=128, ge=0, le=10000)
    max_seq_len: Whole = Field(default=384, ge=1, le=10000)
    align_to_words: bool = True


class Pair(_Request):
    """Two texts that a model reads together."""

    text: str
    text_pair: str | None = None


class Question(_Request):
    """Of question-answering."""

    question: str
    context: str


Input = str | Pair | Question | Annotated[list[str], Field(min_length=2, max_length=2)]


class PredictRequest(_Request):
    """Texts for a model of any task: POST /v1/predict."""

    model: Name
    inputs: str | list[Input]
    """Strings; pairs for text-ranking and classifiers of pairs; questions with their context"""
    options: PredictOptions = PredictOptions()


class PredictResponse(BaseModel):
    """One answer an input, as the offline predictor's."""

    model: str
    task: str
    predictions: list[Any]
    usage: Usage


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    task: str
    max_length: int
    """Tokens that it reads"""


class ModelsResponse(BaseModel):
    """Those that are served."""

    object: Literal["list"]
    data: list[ModelCard]


class InferInput(_Request):
    """A tensor of texts; its data is here, or after the JSON where `parameters` hold a binary_data_size."""

    name: Name
    datatype: str
    shape: list[Whole] = Field(max_length=2)
    parameters: dict[str, Any] = {}
    data: list[str | Annotated[list[str], Field(max_length=1)]] | None = None


class InferOutput(_Request):
    """An output that is asked for."""

    name: Name
    parameters: dict[str, Any] = {}


class InferRequest(_Request):
    """The Open Inference Protocol's: POST /v2/models/NAME/infer."""

    id: str | None = Field(default=None, max_length=200)
    parameters: dict[str, Any] = {}
    inputs: list[InferInput] = Field(min_length=1, max_length=2)
    outputs: list[InferOutput] = Field(default=[], max_length=8)


class TensorMetadata(BaseModel):
    """An input or output; -1 is a size that varies."""

    name: str
    datatype: str
    shape: list[int]


class TensorResponse(TensorMetadata):
    """A tensor with its numbers row by row, or with a binary_data_size where they follow the JSON."""

    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferResponse(BaseModel):
    """The outputs that were asked for, else all."""

    id: str | None = None
    model_name: str
    model_version: str
    outputs: list[TensorResponse]


class ServerMetadata(BaseModel):
    """GET /v2."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(BaseModel):
    """GET /v2/models/NAME."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
