"""trtbert: BERT-family encoders -> small, fast, verified packages for TensorRT and ONNX Runtime.

`load` needs the plain install; `compile` needs the extra `compile`. Both are imported on first use.
"""

import os
from typing import TYPE_CHECKING, Any

from trtbert.version import __version__

if TYPE_CHECKING:
    from trtbert.config import CompileConfig
    from trtbert.package import Package, open_package
    from trtbert.pipeline import compile
    from trtbert.predictor import Predictor, load

__all__ = ["CompileConfig", "Package", "Predictor", "__version__", "compile", "load", "open_package"]

_HOMES = {
    "CompileConfig": "trtbert.config",
    "Package": "trtbert.package",
    "Predictor": "trtbert.predictor",
    "compile": "trtbert.pipeline",
    "load": "trtbert.predictor",
    "open_package": "trtbert.package",
}


os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime's official builds send events to their maker, from Linux too.


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trtbert' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
