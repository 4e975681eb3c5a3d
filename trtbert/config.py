"""The options of a compilation: one frozen value, checked whole, every default written here."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from trtbert.errors import ConfigError
from trtbert.tasks import Task

Target = Literal["cpu", "cuda", "sm70", "sm75", "sm80", "sm86", "sm89", "sm90", "sm100", "sm120"]
Runtime = Literal["onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
LoweringName = Literal["native", "plugin"]
Quantize = Literal["ffn", "linear", "full"]
Metric = Literal["accuracy", "macro-f1", "seqeval-f1", "squad-f1", "squad-em", "spearman", "ndcg@10", "fidelity"]
CalibrationMethod = Literal["entropy", "percentile", "mse", "minmax", "auto"]
Pooling = Literal["mean", "cls", "max", "mean_sqrt_len", "weightedmean", "lasttoken"]


class Range(BaseModel):
    """The smallest, the usual and the largest size of a dimension."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int
    opt: int
    max: int

    @model_validator(mode="after")
    def _is_ordered(self) -> "Range":
        if not 1 <= self.min <= self.opt <= self.max:
            raise ValueError(f"needs 1 <= MIN <= OPT <= MAX, got {self.min} {self.opt} {self.max}")
        return self


class Profile(BaseModel):
    """One optimisation profile of an engine: a range of batch sizes and of lengths in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: Range = Range(min=1, opt=8, max=64)
    seq_len: Range | None = None
    """None: from 1 to the model's maximum, tuned for a quarter of it."""


class CompileConfig(BaseModel):
    """What `trtbert compile` is asked for; see its --help for each option."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal[Task, "auto"] = "auto"
    target: Target = "cpu"
    runtime: Literal[Runtime, "auto"] = "auto"
    precision: Literal[Precision, "auto"] = "auto"
    """auto: fp32 for the CPU, fp16 for a GPU. int8 is on top of fp32 on a CPU, of fp16 on a GPU."""
    lowering: Literal[LoweringName, "auto"] = "auto"
    """What TensorRT computes the fused nodes with; auto: plugins for Volta, which has no fused attention otherwise, else its own layers."""
    packed: bool = False
    """Compute no padding inside the encoder; needs plugins."""
    profiles: tuple[Profile, ...] = (Profile(),)
    tokenizer: Path | None = None
    """Folder of the tokenizer; needed with a `.onnx` file that has none beside it."""
    pooling: Literal[Pooling, "auto"] = "auto"
    """auto: what the sentence-transformers modules say, else mean."""
    allow_unfused: bool = False
    calibration_data: Path | None = None
    """Texts for INT8, .txt, .csv, .tsv, .jsonl, .conll or SQuAD's .json; None: the texts that come with trtbert."""
    text_column: str | None = None
    """The column of the texts in calibration_data and eval_data, where it has none of the usual names."""
    calibration_size: int = Field(default=512, ge=16)
    """Texts that are drawn from calibration_data, if it holds more."""
    calibration_method: CalibrationMethod = "entropy"
    calibration_cache: Path | None = None
    """The calibration.cache in an INT8 package of the same model: its calibration is repeated, and nothing measured again."""
    smooth: bool | None = None
    """Even out the columns of a GEMM's input first (SmoothQuant); None: where it measures better."""
    quantize: Quantize = "linear"
    quantize_embeddings: bool = True
    """Keep the rows of the word embedding in INT8."""
    eval_data: Path | None = None
    """Labelled examples of the task, or texts; what max_drop is measured on."""
    metric: Literal[Metric, "auto"] = "auto"
    """auto: the first metric of the task, or fidelity where eval_data has no labels."""
    max_drop: float | None = Field(default=None, ge=0.0, le=100.0)
    """Points that INT8 may cost; the most sensitive GEMMs stay in float until it holds."""

    @model_validator(mode="after")
    def _fits_together(self) -> "CompileConfig":
        given = sorted(self.model_fields_set & _INT8_OPTIONS)
        if given and self.precision != "int8":
            raise ValueError(f"{_quoted(given)} only matter for INT8, and `precision` is {self.precision}; add `precision` int8")
        if self.calibration_cache is not None and len(given) > 1:
            others = _quoted(name for name in given if name != "calibration_cache")
            raise ValueError(f"`calibration_cache` says all about a calibration, so that {others} cannot be given as well")
        if (self.eval_data is not None or self.metric != "auto") and self.max_drop is None:
            raise ValueError("`eval_data` and `metric` say what `max_drop` is measured on; add `max_drop`, the points that INT8 may cost")
        return self


class TrainingConfig(BaseModel):
    """How a model is trained; see `trtbert compress --help`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    epochs: float = Field(default=3.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """At most so many steps, whatever `epochs` says."""
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0, le=10)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=128, ge=3)
    """Tokens that texts are cut to in training."""
    patience: int = Field(default=3, ge=1)
    """Epochs without a better score after which training stops, where there is data to evaluate on."""
    save_every: int = Field(default=200, ge=1)
    """Steps between two states that a killed run resumes from."""
    seed: int = 0


class StepConfig(BaseModel):
    """One step of a compression: a method with its own options, which the method checks."""

    model_config = ConfigDict(frozen=True, extra="allow")

    method: str
    training: TrainingConfig = TrainingConfig()

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class CompressConfig(BaseModel):
    """What `trtbert compress` is asked for; see its --help for each option."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[StepConfig, ...] = Field(min_length=1)
    """In their order, each on what the one before it left."""
    task: Literal[Task, "auto"] = "auto"
    data: Path | None = None
    """Labelled examples of the task; a .txt file holds texts without labels."""
    texts: Path | None = None
    """Texts without labels, to distil and to measure on."""
    text_column: str | None = None
    teacher: Path | None = None
    """The model to learn from; None: the model as it came."""
    eval_data: Path | None = None
    """Labelled examples held back: training keeps the epoch that is best on them, and the result is scored."""
    metric: Literal[Metric, "auto"] = "auto"
    compile: CompileConfig | None = None
    """How the result is compiled, into the package folder OUT.package; None: it is not. INT8 is calibrated on `data` where nothing else is
    named."""


class SearchConfig(BaseModel):
    """What `trtbert compress --search` looks for."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_drop: float = Field(default=1.0, ge=0, le=100)
    """Points of the metric that the smaller model may lose on the evaluation data"""
    target_latency: float | None = Field(default=None, gt=0)
    """Milliseconds that its package may take for one text on this CPU"""
    tokens: int = Field(default=32, ge=2)
    """Of that text"""
    precision: Literal["fp32", "int8"] = "fp32"
    """Of the package that is timed"""


_INT8_OPTIONS = frozenset(
    {
        "calibration_cache",
        "calibration_data",
        "calibration_method",
        "calibration_size",
        "eval_data",
        "max_drop",
        "metric",
        "quantize",
        "quantize_embeddings",
        "smooth",
        "text_column",
    }
)


_Config = TypeVar("_Config", bound=BaseModel)
Place = tuple[int | str, ...]
"""Of a value in a configuration: ("steps", 0, "training", "epochs")."""


def dotted(place: Place) -> str:
    return ".".join(map(str, place))


def config_from_mapping(
    options: Mapping[str, Any],
    kind: type[_Config] = CompileConfig,  # type: ignore[assignment]
    *,
    name: str = "The configuration",
    shown: Callable[[Place], str] = dotted,
) -> _Config:
    """Check `options` whole; a ConfigError, which begins with `name`, lists every problem with what came and what is allowed.

    `shown` says what the user knows a place by: a flag of the command line, a key of a file. Validators put fields in `backticks` for it.
    """
    try:
        return kind(**options)
    except ValidationError as error:
        raise ConfigError(f"{name} is wrong:\n  " + "\n  ".join(_problems(error.errors(), kind, shown))) from error


def _problems(errors: Sequence[ErrorDetails], kind: type[BaseModel], shown: Callable[[Place], str]) -> Iterator[str]:
    """A line for each; a list that is too short only because its items are wrong is none."""
    places = [error["loc"] for error in errors]
    for error in errors:
        place, depth = error["loc"], len(error["loc"])
        if error["type"] == "too_short" and any(len(other) > depth and other[:depth] == place for other in places):
            continue
        message = re.sub(r"`(\w+)`", lambda field: shown((field[1],)), error["msg"].removeprefix("Value error, "))
        if error["type"] == "extra_forbidden":
            known = f"; choose from {', '.join(shown((field,)) for field in kind.model_fields)}" if depth == 1 else ""
            message = f"there is no such option{known}"
        elif not isinstance(error["input"], Mapping):
            message += f" (got {error['input']!r})"
        yield f"{shown(place)}: {message}" if place else message


def _quoted(fields: Iterable[str]) -> str:
    return ", ".join(f"`{field}`" for field in fields)
