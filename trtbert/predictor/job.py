"""What a task needs of the engine for some texts, and how its answers are made of what the engine gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Encoding

from trtbert.runtime import Array

Row = Mapping[str, Array]
"""Every output of the model for one encoding, by name."""


def _as_they_are(kept: list[Any]) -> list[Any]:
    return kept


@dataclass(frozen=True)
class Job:
    """A job holds no engine: whoever has one runs the encodings, in batches of its choice, and calls the two functions."""

    encodings: Sequence[Encoding]
    take: Callable[[int, Row], Any]
    """The index of an encoding and its row -> what is kept of it. A row is a view of its batch: `take` copies what it keeps."""
    finish: Callable[[list[Any]], list[Any]] = _as_they_are
    """What was kept, in the order of the encodings -> the answers, one a text."""
