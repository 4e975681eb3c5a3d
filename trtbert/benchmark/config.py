"""The options of `trtbert benchmark`: one frozen value."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt

Library = Literal["torch", "onnxruntime", "openvino"]


def _unique(value: Any) -> Any:
    """The command line gives 1,8,32; what is given twice is timed once."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    return tuple(dict.fromkeys(parts)) if isinstance(parts, list | tuple) else parts


_Sizes = Annotated[tuple[PositiveInt, ...], BeforeValidator(_unique), Field(min_length=1)]
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BenchmarkConfig(BaseModel):
    """What is timed; see `trtbert benchmark --help`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    against: Annotated[tuple[Library, ...], BeforeValidator(_unique), Field(min_length=1)] | None = None
    """Other ways to run the source models; the first is the baseline. None: each that runs here."""
    batch_sizes: _Sizes = (1, 8, 32)
    lengths: _Sizes = (32, 128)
    """In tokens."""
    threads: _Sizes | None = None
    """Of one inference on the CPU, for every contender alike; None: as many as there are cores."""
    rates: Annotated[tuple[_Rate, ...], BeforeValidator(_unique)] = ()
    """Single texts a second that arrive at random."""
    seconds: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    """Of each contender at each shape and rate, as far as the least number of rounds allows."""
