"""The options of `trtbert embed`: one frozen value."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Format = Literal["parquet", "jsonl", "csv"]


class EmbedConfig(BaseModel):
    """How files are embedded; see `trtbert embed --help`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    package: Path
    """Package folder, on every machine of a cluster under this path"""
    text_column: str | None = None
    """Column of the texts; default: text, or question for question-answering"""
    pair_column: str | None = None
    """Column of the second texts; default: context for question-answering, text_pair for text-ranking, else none"""
    prefix: str = ""
    """Put before the names of the answers' columns, where the input has columns of these names"""
    format: Format = "parquet"
    """Of the output files"""
    rows_per_file: int = Field(default=8192, ge=1)
    """Most rows of an output file, the piece of work that one worker does and a killed run may lose"""
    workers: int | None = Field(default=None, ge=1)
    """Processes, each with its own copy of the model; default: as many as there are CPUs for, or GPUs for a package of a GPU target"""
    threads: int = Field(default=1, ge=1)
    """Threads, and CPUs, of a worker"""
    address: str | None = None
    """HOST:PORT of a Ray cluster that this machine belongs to, or auto to find it; default: Ray starts on this machine alone"""
    cost_per_hour: float | None = Field(default=None, ge=0)
    """Price of one worker for an hour, for the cost of a million rows"""

    @field_validator("address")
    @classmethod
    def _is_near(cls, address: str | None) -> str | None:
        if address is not None and "://" in address:
            raise ValueError("a URL runs this program elsewhere than the files are; run it on a machine of the cluster: `address` auto")
        return address
