"""What the export stage gives: one float32 graph with the whole task in it, and the independent model it must answer like."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from trtbert.package import ModelFacts

Array = npt.NDArray[Any]
Feeds = dict[str, Array]
"""Tensors by name: int32 [B,S] inputs, or float32 outputs."""
Reference = Callable[[Feeds], Feeds]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model at the start of the pipeline."""

    model: ir.Model
    """Opset 23; inputs int32 [batch, sequence], outputs float32, named as in `trtbert.tasks`."""
    facts: ModelFacts
    reference: Reference
    """The source model itself, run by torch (a checkpoint) or ONNX Runtime (a foreign file), and the task head in numpy."""
    fingerprint: dict[str, str]
    """sha256 of the weight files, versions of the libraries that read it."""
