"""Packages of one tiny classifier, and of a foreign file: quick to time, so that the times mean nothing."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.exports import exported_once
from tests.models import make_checkpoint
from tests.sources import make_source
from trtbert.cli import main

QUICK = ("--seconds", "0.05", "--batch-sizes", "1,2", "--lengths", "8", "--threads", "1")


@dataclass(frozen=True)
class Packages:
    checkpoint: Path
    floats: Path
    int8: Path
    """Of the checkpoint, as `floats`."""
    foreign: Path
    """Of an .onnx file."""


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    folder = tmp_path_factory.mktemp("packages")
    checkpoint = make_checkpoint(folder / "checkpoint", "bert", task="text-classification")
    model, tokenizer = make_source(folder)
    made = Packages(checkpoint, folder / "floats", folder / "int8", folder / "foreign")
    common = ["--runtime", "onnxruntime", "-o"]
    with exported_once():
        assert main(["compile", str(checkpoint), *common, str(made.floats)]) == 0
        assert main(["compile", str(checkpoint), "--precision", "int8", *common, str(made.int8)]) == 0
    assert main(["compile", str(model), "--tokenizer", str(tokenizer), *common, str(made.foreign)]) == 0
    return made
