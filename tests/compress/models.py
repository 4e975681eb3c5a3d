"""Tiny checkpoints with a task and data that they can learn: the word in a text tells its class."""

from pathlib import Path

from tests.models import LABELS, make_checkpoint
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint
from trtbert.data import Example
from trtbert.tasks import Task

WORDS = ("red", "green", "blue")


def tiny(folder: Path, architecture: str = "bert", task: Task = "text-classification", **options: object) -> Checkpoint:
    """Made in `folder`, or read where it was made before."""
    if not (folder / "config.json").is_file():
        make_checkpoint(folder, architecture, task=task, **options)
    with quiet():
        return read_checkpoint(folder, task=task)


def classified(count: int) -> list[Example]:
    """Texts of 2 to 7 words, each with the label of its colour."""
    labels = LABELS["text-classification"]
    return [Example(" ".join(["the", *["cat"] * (index % 5), WORDS[index % 3]]), (labels[index % 3],)) for index in range(count)]


def tagged(count: int) -> list[Example]:
    """Sentences in which "red" is a person and "blue" starts a place."""
    examples = []
    for index in range(count):
        tokens = ("red", *["the"] * (index % 4), "blue", "cat")
        tags = ("B-PER", *["O"] * (index % 4), "B-LOC", "I-LOC")
        examples.append(Example(" ".join(tokens), tags, tokens))
    return examples
