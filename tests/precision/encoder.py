"""A tiny encoder of fused nodes, built by hand, whose weights can be made to explode one by one.

Legend: B batch, S sequence, D hidden, N heads, H head size, F intermediate.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from trtbert.bodies import add_functions
from trtbert.ops import OPSET
from trtbert.precision import emulated

Array = npt.NDArray[Any]
FLOAT = ir.DataType.FLOAT
VOCABULARY, N, H, F, POSITIONS = 40, 2, 16, 48, 32
D = N * H


class Encoder:
    """Writes nodes into a graph; weights are drawn from one generator, times the factor of their name."""

    def __init__(self, seed: int, factors: dict[str, float]) -> None:
        self._rng = np.random.default_rng(seed)
        self._factors = dict(factors)
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []

    def constant(self, name: str, array: Array) -> ir.Value:
        value = ir.Value(name=f"{name}_{len(self.initializers)}", const_value=ir.tensor(array))
        value.shape, value.dtype = ir.Shape(array.shape), value.const_value.dtype
        self.initializers.append(value)
        return value

    def weight(self, name: str, *shape: int, mean: float = 0.0) -> ir.Value:
        """N(mean, 0.1) for vectors and tables, N(0, 1/in) for matrices, times the factor of `name`."""
        spread = shape[0] ** -0.5 if len(shape) == 2 and name not in ("word", "position") else 0.1
        array = (mean + spread * self._rng.standard_normal(shape)).astype(np.float32)
        return self.constant(name, array * np.float32(self._factors.get(name, 1.0)))

    def qkv_weight(self, *shape: int) -> ir.Value:
        blocks = [self.weight(name, *shape[:-1], D).const_value.numpy() for name in "qkv"]
        del self.initializers[-3:]
        return self.constant("qkv", np.concatenate(blocks, -1))

    def node(self, op_type: str, *inputs: ir.Value, overload: str = "", is_fused: bool = False, **attributes: Any) -> ir.Value:
        node = ir.node(op_type, inputs, attributes, domain="trtbert" if is_fused else "", overload=overload)
        node.name = node.outputs[0].name = f"{op_type}_{len(self.nodes)}"
        node.outputs[0].dtype = FLOAT
        self.nodes.append(node)
        return node.outputs[0]

    def skip_layer_norm(self, x: ir.Value, skip: ir.Value) -> ir.Value:
        gamma, beta, bias = self.weight("gamma", D, mean=1.0), self.weight("beta", D), self.weight("bias", D)
        return self.node("FusedSkipLayerNorm", x, skip, gamma, beta, bias, overload="bias", is_fused=True, epsilon=1e-12)

    def layer(self, x: ir.Value, mask: ir.Value) -> ir.Value:
        qkv = self.node("Add", self.node("MatMul", x, self.qkv_weight(D, D)), self.qkv_weight(D))
        context = self.node("FusedQkvAttention", qkv, mask, is_fused=True, num_heads=N, head_size=H, scale=H**-0.5)
        x = self.skip_layer_norm(self.node("MatMul", context, self.weight("attention_out", D, D)), x)
        up = self.node("MatMul", x, self.weight("up", D, F))
        gelu = self.node("FusedBiasGelu", up, self.weight("up_bias", F), is_fused=True, approximate="none")
        return self.skip_layer_norm(self.node("MatMul", gelu, self.weight("down", F, D)), x)


def encoder(*, num_layers: int = 2, seed: int = 0, **factors: float) -> ir.Model:
    """Embeddings, `num_layers` layers, and a head of one Gemm on the first token: logits [B,3].

    `factors`: what a group of weights is multiplied by: word, q, k, v (weights and biases), attention_out, up, up_bias, down,
    gamma, bias, head.
    """
    graph = Encoder(seed, factors)
    input_ids, mask = (_int32(name) for name in ("input_ids", "attention_mask"))
    position_ids = graph.constant("position_ids", np.arange(POSITIONS, dtype=np.int64)[None])
    length = graph.node("Shape", input_ids, start=1, end=2)
    length.dtype = ir.DataType.INT64
    zero, one = graph.constant("zero", np.array([0])), graph.constant("one", np.array([1]))
    position_ids = graph.node("Slice", position_ids, zero, length, one)
    position_ids.dtype = ir.DataType.INT64
    tables = graph.weight("word", VOCABULARY, D), graph.weight("position", POSITIONS, D)
    norm = graph.weight("embedding_gamma", D, mean=1.0), graph.weight("beta", D)
    x = graph.node("FusedEmbedLayerNorm", input_ids, position_ids, *tables, *norm, is_fused=True, epsilon=1e-12)
    for _ in range(num_layers):
        x = graph.layer(x, mask)
    first = graph.node("Gather", x, graph.constant("first", np.array(0)), axis=1)
    logits = graph.node("Gemm", first, graph.weight("head", D, 3), graph.weight("head_bias", 3))
    logits.name, logits.shape = "logits", ir.Shape(["batch", 3])
    result = ir.Graph(
        [input_ids, mask], [logits], nodes=graph.nodes, initializers=graph.initializers, opset_imports={"": OPSET}, name="encoder"
    )
    model = ir.Model(result, ir_version=11)
    add_functions(model)
    return model


def _int32(name: str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.INT32), shape=ir.Shape(["batch", "sequence"]))


def batch(seed: int = 0, size: int = 5, length: int = 11) -> dict[str, Array]:
    """Padded, left-padded and whole rows."""
    rng = np.random.default_rng(seed)
    mask = np.ones((size, length), np.int32)
    mask[0, length // 2 :] = 0
    mask[1, : length // 3] = 0
    return {"input_ids": rng.integers(0, VOCABULARY, (size, length), dtype=np.int32), "attention_mask": mask}


def run(model: ir.Model, feed: dict[str, Array]) -> list[Array]:
    """ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return list(onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options).run(None, feed))


def run_half(model: ir.Model, feed: dict[str, Array]) -> list[Array]:
    """A 16-bit model, every result rounded: ONNX Runtime's own FP16 hides overflow."""
    return run(emulated(model), feed)


def cosine(actual: Array, expected: Array) -> float:
    """The smallest cosine between rows of the last axis."""
    a, b = (x.reshape(-1, x.shape[-1]).astype(np.float64) for x in (actual, expected))
    return float(((a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))).min())
