"""Convert a float32 graph to half, start to end: prepare, scan, plan, lower."""

import logging
from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as passes

from trtbert.precision.formats import FORMATS, Precision
from trtbert.precision.forms import Forms
from trtbert.precision.lower import lower
from trtbert.precision.plan import Plan
from trtbert.precision.prepare import prepared
from trtbert.precision.scan import Feeds, Peaks, scan

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A strongly typed graph in half, and what a user should know of it, one sentence each."""

    model: ir.Model
    notes: tuple[str, ...]


def convert(model: ir.Model, precision: Precision, feeds: Feeds) -> Converted:
    """Convert the float32 `model` (opset 23; fused nodes with their bodies) to FP16 or BF16; its outputs stay float32.

    Every GEMM is in half; Softmax, LayerNorm, reductions, pooling and the task head are in float32. For FP16 the float32
    model is run on each of `feeds` (input name -> array) on the CPU, and a GEMM or attention whose numbers come near the
    end of the range is scaled by powers of two. The input is not changed; the result shares the weights left in float32.

    Raises UnsupportedError for control flow and for a model that is not float32.
    """
    number_format = FORMATS[precision]
    result = prepared(model)
    notes = []
    peaks = scan(result, feeds) if number_format.is_narrow else Peaks({})
    if number_format.is_narrow and not feeds:
        notes.append(f"no text was given to scan: activations beyond the range of {number_format.name} would go unnoticed")
    plan = Plan(result.graph, peaks, number_format)
    forms = Forms(result.graph, number_format)
    notes += lower(result.graph, plan, peaks, forms)
    notes += (*forms.losses.notes, *forms.losses.summary())
    passes.RemoveUnusedNodesPass()(result)  # and the float32 weights of which a half is left
    for note in notes:
        _logger.info("%s", note)
    return Converted(model=result, notes=tuple(notes))
