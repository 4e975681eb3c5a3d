"""A package folder: the manifest that describes it, written last and checked whole when it is opened."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from trtbert.config import Precision, Profile, Runtime, Target
from trtbert.tasks import Task

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorFacts(_Record):
    """Name, dtype (numpy's word) and shape of an input or output; a dimension is a size or a name such as "batch"."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class TokenizerFacts(_Record):
    """What a caller needs beside tokenizer.json: the tokenizer's files are copied into the package as they are read."""

    file: str = "tokenizer.json"
    pad_token_id: int
    pad_token_type_id: int = 0
    padding_side: Literal["left", "right"] = "right"
    mask_token_id: int | None = None
    vocab_size: int


class ModelFacts(_Record):
    """What the source model is, whatever it is built for."""

    architecture: str
    """The Hugging Face model_type, or "unknown" for a foreign .onnx with no config.json beside its tokenizer."""
    task: Task
    labels: tuple[str, ...] = ()
    activation: Literal["softmax", "sigmoid", "none"] = "none"
    """What the graph applies to the logits of a classifier."""
    max_length: int
    """Longest input in tokens, special tokens included."""
    num_layers: int | None
    tokenizer: TokenizerFacts
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]


class StageFigures(_Record):
    """How far the outputs of one stage are from the source model's on the verification batches."""

    stage: str
    max_error: float
    """Largest |difference| divided by the largest |output| of the source."""
    cosine: float
    """Smallest cosine over rows."""
    label_agreement: float | None = None
    """Share of rows (tokens) with the same best label; None for tasks without labels."""
    is_passed: bool


class Verification(_Record):
    stages: tuple[StageFigures, ...]
    num_batches: int
    num_texts: int
    unverified: tuple[str, ...] = ()
    """What only hardware can show, each with the command that checks it."""


class Lowering(_Record):
    """What became of one fused node in the engine."""

    node: str
    op: str
    lowering: str
    milliseconds: dict[str, float] = Field(default_factory=dict)
    """Measured time of each candidate on the building machine, empty where nothing was measured."""


class Unfused(_Record):
    """A place where a fusion was expected or looked for and did not fire."""

    rule: str
    node: str
    reason: str


class Manifest(_Record):
    format_version: Literal[1] = FORMAT_VERSION
    trtbert_version: str
    model: ModelFacts
    target: Target
    runtime: Runtime
    precision: Precision
    engine: str | None
    """File name of the engine, model.onnx or model.plan; None in a build kit, which has no engine yet."""
    onnx: str | None = None
    """In a build kit: the ONNX file that the engine is to be built from."""
    versions: dict[str, str]
    """Of everything that had a part in the build: onnxruntime, tensorrt, torch..."""
    compute_capability: str | None = None
    profiles: tuple[Profile, ...] = ()
    fusions: dict[str, int]
    unfused: tuple[Unfused, ...] = ()
    lowerings: tuple[Lowering, ...] = ()
    verification: Verification
    notes: tuple[str, ...] = ()
    """What the user should know: weights that flush to zero in FP16, GEMMs that were scaled..."""
    source: dict[str, str]
    """Where the model came from: its name, and the sha256 of its weight file."""
    files: dict[str, str]
    """sha256 of every file of the package but this one."""
