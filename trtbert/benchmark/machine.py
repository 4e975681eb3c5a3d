"""This machine -> what a measured figure has to say of it: hardware, system, versions."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from trtbert.hardware import cpu_model, num_cores

_LIBRARIES = ("numpy", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "torch", "transformers")


def machine_facts() -> dict[str, Any]:
    return {
        "cpu": cpu_model(),
        "num_cores": num_cores(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """Of the libraries that are installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
