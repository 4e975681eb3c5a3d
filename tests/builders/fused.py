"""Small fused encoders made by hand, as the rewrite stage makes them.

Legend: B batch, S sequence, D hidden, N heads, H head size, V rows of a table.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from trtbert.bodies import add_functions
from trtbert.ops import DOMAIN, OPSET

BATCH, SEQUENCE = ir.SymbolicDim("batch"), ir.SymbolicDim("sequence")
NUM_POSITIONS, NUM_WORDS = 64, 60


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Sizes of an encoder; one head count and one FFN width for each layer."""

    heads: tuple[int, ...] = (3, 2)
    widths: tuple[int, ...] = (80, 56)
    hidden: int = 48
    head_size: int = 16
    approximate: str = "none"
    has_relative_bias: bool = False
    dtype: ir.DataType = ir.DataType.FLOAT
    num_positions: int = NUM_POSITIONS


def fused_encoder(encoder: Encoder) -> ir.Model:
    """int32 ids, mask and types [B,S] -> float32 last_hidden_state [B,S,D]."""
    return _Builder(encoder).model()


def feeds(batch: int, length: int, seed: int = 0) -> dict[str, npt.NDArray[np.int32]]:
    """Ids with a mask that has holes and, from two rows on, a left-padded row; no row is wholly masked."""
    rng = np.random.default_rng(seed)
    mask = (rng.random((batch, length)) < 0.8).astype(np.int32)
    mask[:, -1] = 1
    if batch > 1:
        mask[1, : length // 2] = 0
    return {
        "input_ids": rng.integers(0, NUM_WORDS, (batch, length), dtype=np.int32),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, (batch, length), dtype=np.int32),
    }


class _Builder:
    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.tape, self.rng = encoder, ir.tape.Tape(), np.random.default_rng(0)
        self.inputs = [ir.val(name, ir.DataType.INT32, [BATCH, SEQUENCE]) for name in feeds(1, 1)]

    def model(self) -> ir.Model:
        hidden = self.embeddings()
        bias = self.relative_bias() if self.encoder.has_relative_bias else None
        for num_heads, width in zip(self.encoder.heads, self.encoder.widths, strict=True):
            hidden = self.layer(hidden, bias, num_heads, width)
        hidden = self.tape.op("Cast", [hidden], {"to": ir.DataType.FLOAT})
        hidden.name, hidden.dtype, hidden.shape = "last_hidden_state", ir.DataType.FLOAT, ir.Shape([BATCH, SEQUENCE, self.encoder.hidden])
        graph = ir.Graph(
            self.inputs, [hidden], nodes=self.tape.nodes, initializers=self.tape.initializers, opset_imports={"": OPSET}, name="encoder"
        )
        for i, node in enumerate(graph):
            node.name = f"{node.op_type}_{i}"
        model = ir.Model(graph, ir_version=11)
        add_functions(model)
        return model

    def embeddings(self) -> ir.Value:
        length = self.tape.op("Shape", [self.inputs[0]], {"start": 1, "end": 2})
        rows = self.constant(np.arange(self.encoder.num_positions)[None])
        position_ids = self.tape.op("Slice", [rows, self.constant([0]), length, self.constant([1])])
        position_ids.dtype = ir.DataType.INT64
        d = self.encoder.hidden
        inputs = [self.inputs[0], position_ids, self.weight(NUM_WORDS, d), self.weight(self.encoder.num_positions, d)]
        inputs += [self.weight(d, mean=1), self.weight(d), self.inputs[2], self.weight(2, d)]
        return self.fused("FusedEmbedLayerNorm", inputs, d, {"epsilon": 1e-12}, "token_type")

    def relative_bias(self) -> ir.Value:
        """A bias [1,N,S,S] looked up by the distance of two tokens, as in MPNet."""
        length = self.tape.op("Squeeze", [self.tape.op("Shape", [self.inputs[0]], {"start": 1, "end": 2}), self.constant([0])])
        steps = self.tape.op("Range", [self.constant(0), length, self.constant(1)])
        columns, rows = (self.tape.op("Unsqueeze", [steps, self.constant([axis])]) for axis in (0, 1))
        distance = self.tape.op("Mod", [self.tape.op("Sub", [columns, rows]), self.constant(16)])
        bias_SSN = self.tape.op("Gather", [self.weight(16, self.encoder.heads[0], scale=1.0), distance])
        bias_NSS = self.tape.op("Transpose", [bias_SSN], {"perm": [2, 0, 1]})
        return self.typed(self.tape.op("Unsqueeze", [bias_NSS, self.constant([0])]), [1, self.encoder.heads[0], SEQUENCE, SEQUENCE])

    def layer(self, x: ir.Value, bias: ir.Value | None, num_heads: int, width: int) -> ir.Value:
        d, h = self.encoder.hidden, self.encoder.head_size
        merged = 3 * num_heads * h
        qkv = self.typed(self.tape.op("Add", [self.matmul(x, d, merged), self.weight(merged)]), [BATCH, SEQUENCE, merged])
        attributes = {"num_heads": num_heads, "head_size": h, "scale": h**-0.5}
        inputs = [qkv, self.inputs[1]] + ([] if bias is None else [bias])
        context = self.fused("FusedQkvAttention", inputs, num_heads * h, attributes, "" if bias is None else "bias")
        x = self.skip_layer_norm(self.matmul(context, num_heads * h, d), x)
        gelu = {"approximate": self.encoder.approximate}
        inner = self.fused("FusedBiasGelu", [self.matmul(x, d, width), self.weight(width)], width, gelu)
        return self.skip_layer_norm(self.matmul(inner, width, d), x)

    def skip_layer_norm(self, x: ir.Value, skip: ir.Value) -> ir.Value:
        d = self.encoder.hidden
        inputs = [x, skip, self.weight(d, mean=1), self.weight(d), self.weight(d)]
        return self.fused("FusedSkipLayerNorm", inputs, d, {"epsilon": 1e-12}, "bias")

    def matmul(self, x: ir.Value, rows: int, columns: int) -> ir.Value:
        return self.typed(self.tape.op("MatMul", [x, self.weight(rows, columns)]), [BATCH, SEQUENCE, columns])

    def fused(
        self, name: str, inputs: list[ir.Value], width: int, attributes: dict[str, int | float | str], overload: str = ""
    ) -> ir.Value:
        return self.typed(self.tape.op(name, inputs, attributes, domain=DOMAIN, overload=overload), [BATCH, SEQUENCE, width])

    def typed(self, value: ir.Value, shape: list[int | ir.SymbolicDim]) -> ir.Value:
        value.dtype, value.shape = self.encoder.dtype, ir.Shape(shape)
        return value

    def weight(self, *shape: int, mean: float = 0.0, scale: float = 0.2) -> ir.Value:
        array = (self.rng.standard_normal(shape) * scale + mean).astype(self.encoder.dtype.numpy())
        return self.tape.initializer(ir.tensor(array, dtype=self.encoder.dtype, name=f"weight_{len(self.tape.initializers)}"))

    def constant(self, value: npt.ArrayLike) -> ir.Value:
        return self.tape.op("Constant", [], {"value": ir.tensor(np.asarray(value, np.int64))})
