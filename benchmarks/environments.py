"""Peers that are no dependency of trtbert -> an environment of its own for each, with the versions that are compared."""

import subprocess
import venv
from pathlib import Path

PACKAGES = {
    "nncf": ("nncf==3.4.0", "openvino==2026.4.1"),
    "optimum": ("optimum-onnx==0.1.0", "transformers==4.57.6", "torch==2.13.0", "onnxruntime==1.31.1"),
}
"""optimum-onnx takes no transformers 5."""


def interpreter(name: str, folder: Path) -> str:
    """Python of the environment of one of PACKAGES, in `folder`, installed where it is not there; CalledProcessError where pip fails."""
    environment = folder / name
    python, installed = environment / "bin" / "python", environment / "installed"
    if not installed.is_file():
        venv.create(environment, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name]]
        subprocess.run(command, check=True, capture_output=True, text=True)
        installed.touch()
    return str(python)
