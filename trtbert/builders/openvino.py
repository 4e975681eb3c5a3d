"""Turn a fused model into an OpenVINO IR: model.xml, with its weights in model.bin beside it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from trtbert.builders.files import save_onnx
from trtbert.builders.integer import with_gathered_rows
from trtbert.builders.lowering import ORT, lower
from trtbert.errors import UnsupportedError
from trtbert.package import Lowering
from trtbert.runtime.openvino import import_openvino, reason, version_of

STANDARD = {
    "FusedQkvAttention": "Softmax",
    "FusedSkipLayerNorm": "LayerNormalization",
    "FusedBiasGelu": "Gelu",
    "FusedEmbedLayerNorm": "LayerNormalization",
}
"""Ops of the ONNX standard only. At 8x128 the function body of attention takes 7 % longer in fp32 and 12 % in INT8, Attention more."""


@dataclass(frozen=True, kw_only=True)
class BuiltOpenVino:
    """The file model.xml, what became of each fused node, and the version that built it."""

    path: Path
    lowerings: tuple[Lowering, ...]
    versions: dict[str, str]


def build(model: ir.Model, output: Path) -> BuiltOpenVino:
    """Lower `model`, which stays as it is, and save it as `output` (.xml) with its weights beside it (.bin), none of them narrowed.

    Raises MissingRuntimeError where OpenVINO is not installed, UnsupportedError for a graph that it does not read.
    """
    openvino = import_openvino()
    version = version_of(openvino)
    lowered, lowerings = lower(model, ORT, STANDARD)
    with_gathered_rows(lowered)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".build-") as folder:
        onnx = Path(folder, "model.onnx")
        save_onnx(lowered, onnx)
        try:
            # Not convert_model: it prints where sys.argv has --verbose, and sends telemetry where openvino was imported before us.
            converted = openvino.Core().read_model(onnx)
        except Exception as error:  # Its C++ exceptions become whatever Python exception is nearest.
            raise UnsupportedError(f"OpenVINO {version} cannot read this graph: {reason(error)}. Use --runtime onnxruntime.") from error
        openvino.save_model(converted, output, compress_to_fp16=False)
    return BuiltOpenVino(path=output, lowerings=lowerings, versions={"openvino": version})
