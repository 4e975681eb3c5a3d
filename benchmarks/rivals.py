"""A model folder -> every way to run it that a user would pick, trtbert's packages among them: the contenders of race.py."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contenders import Contender
from environments import interpreter
from feeds import Feeds, write_feeds
from packages import Calibration, compile_fp32, compile_int8
from processes import script_command
from tables import progress

TORCH = "PyTorch"


@dataclass(frozen=True, kw_only=True)
class Rival:
    """Somebody else's way: a way of peers.py, or what needs none."""

    name: str
    kind: Literal["torch", "torch.compile", "onnx", "openvino"]
    way: str | None = None
    """None: the model folder itself for PyTorch, its plain export for the others."""
    is_from_folder: bool = False
    """Whether the way starts from the model folder; else from the plain export."""
    environment: str | None = None
    """One of environments.PACKAGES, in which the way runs."""
    precision_hint: str | None = None
    is_int8: bool = False


@dataclass(frozen=True, kw_only=True)
class Own:
    """A package of trtbert."""

    name: str
    runtime: Literal["onnxruntime", "openvino"]
    is_int8: bool = False


RIVALS = (
    Rival(name=TORCH, kind="torch"),
    Rival(name="PyTorch, torch.compile", kind="torch.compile"),
    Rival(name="ONNX Runtime", kind="onnx"),
    Rival(name="ONNX Runtime, its transformers tool", kind="onnx", way="transformers-tool", is_from_folder=True),
    Rival(name="ONNX Runtime, optimum-onnx", kind="onnx", way="optimum", is_from_folder=True, environment="optimum"),
    Rival(name="OpenVINO", kind="openvino", precision_hint="f32"),
    Rival(name="ONNX Runtime, dynamic INT8", kind="onnx", way="dynamic", is_int8=True),
    Rival(name="ONNX Runtime, static INT8", kind="onnx", way="static", is_int8=True),
    Rival(name="ONNX Runtime, static INT8, float outputs", kind="onnx", way="static-float-outputs", is_int8=True),
    Rival(name="OpenVINO, NNCF INT8", kind="openvino", way="nncf", environment="nncf", is_int8=True),
)
"""OpenVINO in FP32 is kept from computing in 16 bits where the CPU has them; in INT8 it is left to its default."""
OWN = (
    Own(name="trtbert, ONNX Runtime", runtime="onnxruntime"),
    Own(name="trtbert, OpenVINO", runtime="openvino"),
    Own(name="trtbert INT8, ONNX Runtime", runtime="onnxruntime", is_int8=True),
    Own(name="trtbert INT8, OpenVINO", runtime="openvino", is_int8=True),
)
NAMES = tuple(way.name for way in (*RIVALS, *OWN))


def make_own(folder: Path, model: Path, calibration: Calibration, names: Sequence[str]) -> list[Contender]:
    """The packages named, compiled into `folder`."""
    return [_make_own(own, folder / f"own-{number}", model, calibration) for number, own in enumerate(OWN) if own.name in names]


def make_rivals(
    folder: Path, model: Path, calibrated: Sequence[Feeds], environments: Path, names: Sequence[str]
) -> tuple[list[Contender], dict[str, str]]:
    """Those named, calibrated on the feeds, each in a folder of its own; and of those that cannot be made, why."""
    progress("Exporting")
    export, feeds = folder / "export.onnx", write_feeds(folder / "feeds.npz", calibrated)
    _run(script_command("plain_export.py", model, export))
    made, failed = list[Contender](), dict[str, str]()
    for number, rival in enumerate(RIVALS):
        if rival.name in names:
            progress(f"Making: {rival.name}")
            try:
                made.append(_make_rival(rival, folder / f"rival-{number}", model, export, feeds, environments))
            except subprocess.CalledProcessError as error:
                failed[rival.name] = reason(str(error.stderr))
    return made, failed


def reason(message: str) -> str:
    """The last line of a traceback or message."""
    return next((line for line in reversed(message.splitlines()) if line.strip()), "no message")


def _make_own(own: Own, package: Path, model: Path, calibration: Calibration) -> Contender:
    progress(f"Compiling: {own.name}")
    task = "feature-extraction"
    if own.is_int8:
        compile_int8(model, package, calibration, task=task, runtime=own.runtime)
    else:
        compile_fp32(model, package, task=task, runtime=own.runtime)
    return Contender(name=own.name, kind="package", path=package, is_int8=own.is_int8, is_compared=False)


def _make_rival(rival: Rival, folder: Path, model: Path, export: Path, feeds: Path, environments: Path) -> Contender:
    path = model if rival.kind in ("torch", "torch.compile") else export
    if rival.way is not None:
        folder.mkdir()
        source, path = model if rival.is_from_folder else export, folder / ("model.xml" if rival.kind == "openvino" else "model.onnx")
        python = sys.executable if rival.environment is None else interpreter(rival.environment, environments)
        _run(script_command("peers.py", rival.way, source, feeds, path, python=python))
    hint = rival.precision_hint
    return Contender(name=rival.name, kind=rival.kind, path=path, precision_hint=hint, is_int8=rival.is_int8, is_compared=False)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
