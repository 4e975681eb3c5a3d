"""The JSON that comes in and goes out, as pydantic models: requests are checked by them, the OpenAPI description is made of them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from trtbert.serve.refusal import Refusal

_MAX_LABELS = 1000
_JSON_TYPES: dict[type, str] = {str: "text", list: "list", dict: "object"}


def _whole(value: Any) -> Any:
    """2.0 is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _few(value: Any, info: ValidationInfo) -> Any:
    """Refusal 413 for more texts than the context's `max_texts`: before each of them costs anything."""
    assert info.context is not None
    if isinstance(value, list) and len(value) > info.context["max_texts"]:
        raise Refusal(413, f"A request must hold 1 to {info.context['max_texts']} texts, got {len(value)}.")
    return value


def _no_token_ids(value: Any) -> Any:
    if isinstance(value, list) and value and type(value[0]) in (int, list):
        raise PydanticCustomError("token_ids", "must be a text or a list of texts; token ids are not taken, send the text itself")
    return value


def _json_type(value: Any) -> str | None:
    return _JSON_TYPES.get(type(value))


Whole = Annotated[int, BeforeValidator(_whole)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
_ONE_OR_MANY = Discriminator(_json_type, custom_error_type="texts", custom_error_message="must be a text or a list of them")


class _Request(BaseModel):
    """A wrong body has few errors, whatever its size, or they would fill the memory: a list fails with its first one (`fail_fast`),
    a union takes one branch (Discriminator), and of unknown fields one is named."""

    model_config = ConfigDict(
        frozen=True, extra="allow", strict=True, use_attribute_docstrings=True, json_schema_extra={"additionalProperties": False}
    )

    @model_validator(mode="after")
    def _has_no_other_field(self) -> Self:
        if self.model_extra:
            raise PydanticCustomError("unknown_field", "there is no field {name}", {"name": repr(next(iter(self.model_extra))[:50])})
        return self


class EmbeddingsRequest(_Request):
    """As OpenAI's: POST /v1/embeddings."""

    model: Name
    input: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[str], Field(fail_fast=True), Tag("list")],
        _ONE_OR_MANY,
        BeforeValidator(_few),
        BeforeValidator(_no_token_ids),
    ]
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


AnyDocument = Annotated[
    Annotated[str, Tag("text")] | Annotated[Document, Tag("object")],
    Discriminator(_json_type, custom_error_type="document", custom_error_message='must be a text or {"text": ...}'),
]


class RerankRequest(_Request):
    """As Cohere's and Jina's: POST /v1/rerank."""

    model: Name
    query: str
    documents: Annotated[list[AnyDocument], Field(fail_fast=True), BeforeValidator(_few)]
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
    ignore_labels: list[str] = Field(default=["O"], max_length=_MAX_LABELS, fail_fast=True)
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


def _kind_of_input(value: Any) -> str | None:
    if isinstance(value, dict):
        return "question" if value.keys() & Question.model_fields.keys() else "pair"
    return _json_type(value)


Input = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[Pair, Tag("pair")]
    | Annotated[Question, Tag("question")]
    | Annotated[list[str], Field(min_length=2, max_length=2, fail_fast=True), Tag("list")],
    Discriminator(
        _kind_of_input,
        custom_error_type="input",
        custom_error_message='must be a text, [text, text_pair], {"text", "text_pair"} or {"question", "context"}',
    ),
]


class PredictRequest(_Request):
    """Texts for a model of any task: POST /v1/predict."""

    model: Name
    inputs: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[Input], Field(fail_fast=True), Tag("list")],
        _ONE_OR_MANY,
        BeforeValidator(_few),
    ]
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
    shape: list[Whole] = Field(max_length=2, fail_fast=True)
    parameters: dict[str, Any] = {}
    data: Annotated[
        list[str | Annotated[list[str], Field(min_length=1, max_length=1)]] | None, Field(fail_fast=True), BeforeValidator(_few)
    ] = None


class InferOutput(_Request):
    """An output that is asked for."""

    name: Name
    parameters: dict[str, Any] = {}


class InferRequest(_Request):
    """The Open Inference Protocol's: POST /v2/models/NAME/infer."""

    id: str | None = Field(default=None, max_length=200)
    parameters: dict[str, Any] = {}
    inputs: list[InferInput] = Field(min_length=1, max_length=2, fail_fast=True)
    outputs: list[InferOutput] = Field(default=[], max_length=8, fail_fast=True)


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
