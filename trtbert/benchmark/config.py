"""The options of `trtbert benchmark`: one frozen value."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator

Library = Literal["torch", "onnxruntime", "openvino"]
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BenchmarkConfig(BaseModel):
    """What is timed; see `trtbert benchmark --help`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    against: tuple[Library, ...] | None = Field(default=None, min_length=1)
    """Of torch, onnxruntime, openvino: other ways to run the source models, the first is the baseline; default: each that runs here"""
    batch_sizes: tuple[PositiveInt, ...] = Field(default=(1, 8, 32), min_length=1)
    """Texts in a batch"""
    lengths: tuple[PositiveInt, ...] = Field(default=(32, 128), min_length=1)
    """In tokens, as far as the packages take them"""
    threads: tuple[PositiveInt, ...] | None = Field(default=None, min_length=1)
    """Of one inference on the CPU, for every contender alike; default: as many as there are cores"""
    rates: tuple[_Rate, ...] = ()
    """Also answer single texts that arrive at random, so many a second"""
    seconds: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    """Of each contender at each shape and rate, as far as the least number of rounds allows"""

    @field_validator("against", "batch_sizes", "lengths", "threads", "rates")
    @classmethod
    def _unique(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        """What is given twice is timed once."""
        return values and tuple(dict.fromkeys(values))
