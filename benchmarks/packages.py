"""A model folder -> a package, by `trtbert compile` in a process of its own, as users make it."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from processes import trtbert_command


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What INT8 is calibrated on, and how."""

    texts: Path | None
    """None: those that come with trtbert."""
    size: int
    """Texts that are drawn, those that are held back included."""
    method: str = "auto"
    has_smoothing: bool = True
    """Leave SmoothQuant to trtbert, which takes it where it measures better; else do without."""

    def __str__(self) -> str:
        return f"{self.size} texts of {self.texts or 'trtbert'}"


def compile_fp32(model: Path, package: Path, *, task: str, runtime: str) -> Path:
    """The package, for this CPU."""
    return _compile(model, package, "--task", task, "--runtime", runtime)


def compile_int8(model: Path, package: Path, calibration: Calibration, *, task: str, runtime: str) -> Path:
    """The same in INT8."""
    data: list[str | Path] = [] if calibration.texts is None else ["--calibration-data", calibration.texts]
    options = ["--task", task, "--runtime", runtime, "--precision", "int8", "--calibration-method", calibration.method]
    size = ["--calibration-size", str(calibration.size)]
    smoothing = [] if calibration.has_smoothing else ["--no-smooth"]
    return _compile(model, package, *options, *size, *smoothing, *data)


def _compile(model: Path, package: Path, *options: str | Path) -> Path:
    subprocess.run(trtbert_command("compile", model, "-o", package, *options), check=True, stdout=subprocess.DEVNULL)
    return package
