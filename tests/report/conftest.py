"""Packages of one tiny classifier, and a report of each kind about them: the page, and what it says as JSON."""

import json
import random
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import trtbert
from tests.benchmark.here import no_processes
from tests.sources import make_source
from trtbert.benchmark.config import BenchmarkConfig
from trtbert.cli import main
from trtbert.report import command

HOSTILE = "<img src=x onerror=alert(1)>\"'&</style><script>alert(2)</script>"


@dataclass(frozen=True)
class Report:
    page: Path
    facts: Any


@dataclass(frozen=True)
class Packages:
    floats: Path
    int8: Path
    """Within a budget, on labelled examples."""
    old: Path
    """As a trtbert wrote it that recorded no nodes, places, options, histograms and intervals."""
    hostile: Path
    """The old one, with markup in its labels, notes, and paths."""


def report(folder: Path, *packages: Path, measured: bool = False) -> Report:
    page, facts = folder / "report.html", folder / "report.json"
    flags = ["--measure"] if measured else []
    assert main(["report", *map(str, packages), "-o", str(page), "--json", str(facts), *flags]) == 0
    return Report(page, json.loads(facts.read_text()))


def rewrite_manifest(package: Path, **changes: Any) -> None:
    """None takes a field away."""
    file = package / "manifest.json"
    fields = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    folder = tmp_path_factory.mktemp("packages")
    model, tokenizer = make_source(folder)
    common = [str(model), "--tokenizer", str(tokenizer), "--runtime", "onnxruntime"]
    assert main(["compile", *common, "-o", str(folder / "floats")]) == 0
    rng = random.Random(0)
    texts = [" ".join(f"w{rng.randrange(54)}" for _ in range(3 + index % 15)) for index in range(60)]
    answers: Any = trtbert.load(folder / "floats").predict(texts)
    (folder / "texts.txt").write_text("\n".join(texts))
    rows = [{"text": text, "label": answer["label"]} for text, answer in zip(texts, answers, strict=True)]
    (folder / "eval.jsonl").write_text("\n".join(map(json.dumps, rows)))
    budget = ["--calibration-data", str(folder / "texts.txt"), "--eval-data", str(folder / "eval.jsonl"), "--max-drop", "20"]
    assert main(["compile", *common, "-o", str(folder / "int8"), "--precision", "int8", *budget]) == 0
    shutil.copytree(folder / "floats", folder / "old")
    rewrite_manifest(folder / "old", nodes=None, places=None, options=None)
    hostile = folder / "<b>'\"&amp; package"
    shutil.copytree(folder / "old", hostile)
    fields = json.loads((hostile / "manifest.json").read_text())
    rewrite_manifest(
        hostile,
        notes=[HOSTILE],
        model=fields["model"] | {"labels": [HOSTILE, "b"]},
        source=fields["source"] | {"path": f"/{HOSTILE}"},
        unfused=[{"rule": "FusedBiasGelu", "node": HOSTILE, "reason": HOSTILE}],
    )
    return Packages(folder / "floats", folder / "int8", folder / "old", hostile)


@pytest.fixture(scope="session")
def single(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report(tmp_path_factory.mktemp("single"), packages.int8)


@pytest.fixture(scope="session")
def old(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report(tmp_path_factory.mktemp("old"), packages.old)


@pytest.fixture(scope="session")
def hostile(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report(tmp_path_factory.mktemp("hostile"), packages.hostile)


@pytest.fixture(scope="session")
def measured(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of two packages, beside the model that both were compiled from; quick, so that the times mean nothing."""
    with no_processes(), pytest.MonkeyPatch.context() as patch:
        quick = partial(BenchmarkConfig, seconds=0.05, batch_sizes=(1, 2), lengths=(8,), threads=(1,))
        patch.setattr(command, "BenchmarkConfig", quick)
        return report(tmp_path_factory.mktemp("measured"), packages.floats, packages.int8, measured=True)
