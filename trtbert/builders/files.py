"""Save an ONNX model, with its weights in a file beside it where one file cannot hold them."""

from pathlib import Path

import onnx_ir as ir

MAX_PROTO_BYTES = 1_900_000_000
"""A protobuf file ends at 2 GiB."""


def save_onnx(model: ir.Model, output: Path) -> None:
    """Save `model` as `output`, and its weights as `output`.data when they are too large for one file."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    ir.save(model, output, external_data=data_file(output).name if size > MAX_PROTO_BYTES else None)


def data_file(path: Path) -> Path:
    """Where the weights of `path` lie if they are not in it."""
    return path.with_name(f"{path.name}.data")
