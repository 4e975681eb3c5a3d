"""The options of a compilation: one frozen value, checked whole, every default written here."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from trtbert.errors import ConfigError
from trtbert.tasks import Task

Target = Literal["cpu", "cuda", "sm70", "sm75", "sm80", "sm86", "sm89", "sm90", "sm100", "sm120"]
Runtime = Literal["onnxruntime", "tensorrt", "tensorrt-rtx"]
Precision = Literal["fp32", "fp16", "bf16"]
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
    """auto: fp32 for the CPU, fp16 for a GPU."""
    profiles: tuple[Profile, ...] = (Profile(),)
    tokenizer: Path | None = None
    """Folder of the tokenizer; needed with a `.onnx` file that has none beside it."""
    pooling: Literal[Pooling, "auto"] = "auto"
    """auto: what the sentence-transformers modules say, else mean."""
    allow_unfused: bool = False


def config_from_mapping(options: dict[str, Any]) -> CompileConfig:
    """Check `options` whole; a ConfigError lists every problem with what came and what is allowed."""
    try:
        return CompileConfig(**options)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
        raise ConfigError("The configuration is wrong:\n  " + "\n  ".join(lines)) from error
