"""Turn a fused model into the ONNX file that ONNX Runtime runs fastest on this machine."""

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from trtbert.builders.files import save_onnx
from trtbert.builders.integer import with_integer_gemms
from trtbert.builders.lowering import ORT, lower
from trtbert.builders.measure import Measurement, measure
from trtbert.package import Lowering

DEFAULT = {
    "FusedQkvAttention": "Softmax",
    "FusedSkipLayerNorm": "LayerNormalization",
    "FusedBiasGelu": "com.microsoft.BiasGelu",
    "FusedEmbedLayerNorm": "LayerNormalization",
}
"""What was fastest on the CPUs that were tried; where nothing can be measured this is taken unmeasured."""

CUDA = {
    "FusedQkvAttention": "com.microsoft.MultiHeadAttention",
    "FusedSkipLayerNorm": "com.microsoft.SkipLayerNormalization",
    "FusedBiasGelu": "com.microsoft.BiasGelu",
    "FusedEmbedLayerNorm": "LayerNormalization",
}
"""The ops that ONNX Runtime's CUDA provider has fused kernels for; docs/how-to/gpu-generations.md says what was seen of them."""


@dataclass(frozen=True, kw_only=True)
class BuiltOrt:
    """The model file, with `model.onnx.data` beside it when it is large, and what became of each fused node."""

    path: Path
    lowerings: tuple[Lowering, ...]


def build(
    model: ir.Model, output: Path, *, feeds_shape: tuple[int, int] = (8, 128), target: str = "cpu", is_measured: bool = True
) -> BuiltOrt:
    """Lower `model` and save it as `output`.

    For the CPU each fused op's lowering is chosen by measuring one encoder layer, on one thread, with every candidate, at batch 1 and at
    `feeds_shape` (batch, length in tokens); unless `is_measured` is False: then it is the default one. `model` stays as it is.
    """
    default = Measurement(choice=DEFAULT if target == "cpu" else CUDA)
    measured = measure(model, DEFAULT, feeds_shape) if target == "cpu" and is_measured else default
    lowered, records = lower(model, ORT, measured.choice)
    save_onnx(with_integer_gemms(lowered), output)
    records = tuple(record.model_copy(update={"milliseconds": measured.milliseconds.get(record.op, {})}) for record in records)
    return BuiltOrt(path=output, lowerings=records)
