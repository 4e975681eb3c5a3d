"""What a worker is given: which rows of which input file, and the output file that they become."""

from dataclasses import dataclass
from pathlib import Path

CHUNK = 2048
"""Rows that are read, sorted by length, run and written together: bounds the memory of a worker."""


@dataclass(frozen=True)
class Cut:
    """Where some rows of a file lie."""

    path: str
    rows: int
    start: int
    """The first row of a Parquet file, from 0; the byte at which the first line begins, of a text file."""
    line: int = 1
    """The number of that line, for messages."""


@dataclass(frozen=True)
class Shard:
    """One piece of work, and the name of its output file: names sort as the rows of the input."""

    name: str
    cut: Cut

    def output(self, folder: Path) -> Path:
        return folder / self.name


def name_shards(cuts: list[Cut], suffix: str) -> list[Shard]:
    width = max(5, len(str(len(cuts) - 1)))
    return [Shard(f"part-{index:0{width}}.{suffix}", cut) for index, cut in enumerate(cuts)]
