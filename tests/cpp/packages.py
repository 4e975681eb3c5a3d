"""A tiny checkpoint of each task -> a package on OpenVINO, made by hand with no part of the compiler."""

from pathlib import Path
from typing import Any

import openvino

import trtbert.package as package
from tests.models import make_checkpoint
from tests.predictor.packages import make_manifest, make_package
from trtbert.tasks import TASKS, Task


def make_packages(folder: Path) -> dict[Task, Path]:
    return {task: make_openvino_package(folder, task) for task in TASKS}


def make_openvino_package(folder: Path, task: Task, **fields: Any) -> Path:
    """`fields` are those of the manifest that are to be others."""
    made = make_package(folder / task, make_checkpoint(folder / f"checkpoint-{task}", "bert", task=task), task)
    facts = package.open_package(made).manifest.model
    openvino.save_model(openvino.Core().read_model(made / "model.onnx"), made / "model.xml", compress_to_fp16=False)
    (made / "model.onnx").unlink()
    package.write_package(made, make_manifest(facts, **{"runtime": "openvino", "engine": "model.xml", **fields}))
    return made
