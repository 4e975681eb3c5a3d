"""What every compression method takes and gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from trtbert.checkpoint.read import Checkpoint
from trtbert.config import TrainingConfig
from trtbert.data import Example, Text


class Options(BaseModel):
    """Base of the options of a method, which are a table of a recipe and flags of the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What a method works on; what it does not need may be empty."""

    checkpoint: Checkpoint
    """To be made smaller; its model may be changed."""
    teacher: Checkpoint | None = None
    """The model to learn from; None: the checkpoint as it was."""
    labelled: Sequence[Example] = ()
    texts: Sequence[Text] = ()
    """Without labels; empty: those of `labelled`."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluate: Callable[[Any], float] | None = None
    """A model of the task -> its figure in percent on data held back; None where there is none."""
    state: Path | None = None
    """Folder that a killed run is resumed from; each training in it has its own folder there."""
    on_step: Callable[[str, int, int], None] = lambda _what, _done, _total: None
    """Hears (what is done, steps done, steps in all)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A smaller model, and what there is to say about it."""

    checkpoint: Checkpoint
    notes: tuple[str, ...] = ()
    """For the user: what was given up, or could not be reached."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Plain values that go into compression.json beside the model."""
