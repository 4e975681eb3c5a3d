"""Cut from a fused model the small models on which lowerings are measured.

Legend: B batch, S sequence, D hidden, N heads, V rows of a table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from trtbert.bodies import add_functions
from trtbert.builders.attention import qkv_matmul, stored
from trtbert.ops import DOMAIN, OPSET

Feeds = dict[str, npt.NDArray[Any]]

_IDS = (0, 1, 6)
"""The inputs of FusedEmbedLayerNorm that hold ids; the others are weights."""

_QUANTISING = ("DequantizeLinear", "QuantizeLinear", "Sub", "Mul")

_NUM_ROWS = 512
"""Rows of each table that the embedding probe keeps: a word table alone can be 90 MB and more."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A small fused model, and its feeds for a batch size and a length in tokens."""

    model: ir.Model
    feeds: Callable[[int, int], Feeds]


def layer_probe(model: ir.Model) -> Probe | None:
    """The first encoder layer, from the input of its QKV projection to that of the next one; None where there is no such layer."""
    attentions = [node for node in model.graph if node.op_type == "FusedQkvAttention"]
    matmuls = [matmul for matmul in map(qkv_matmul, attentions[:2]) if matmul is not None]
    norms = [node.outputs[0] for node in model.graph if node.op_type == "FusedSkipLayerNorm"]
    if not matmuls or len(matmuls) < len(attentions[:2]) or not norms:
        return None
    start, weight = _float_input(matmuls[0]), stored(matmuls[0].inputs[1])
    end = norms[-1] if len(matmuls) == 1 else _float_input(matmuls[1])
    inputs = [value for value in (start, *attentions[0].inputs[1:]) if value is not None]
    if weight is None or weight.const_value is None:
        return None
    try:
        graph = ir.convenience.extract(model.graph, inputs, [end])
    except ValueError:  # something else of the model flows into the layer
        return None
    width, num_heads = weight.const_value.numpy().shape[0], attentions[0].attributes["num_heads"].as_int()
    names = [str(value.name) for value in inputs]
    mask_dtype = (inputs[1].dtype or ir.DataType.INT32).numpy()

    def feeds(batch: int, length: int) -> Feeds:
        rng = np.random.default_rng(0)
        mask_BS = np.ones((batch, length), mask_dtype)
        mask_BS[:, length * 3 // 4 :] = 0
        bias_1NSS = rng.standard_normal((1, num_heads, length, length), np.float32)
        return dict(zip(names, (rng.standard_normal((batch, length, width), np.float32), mask_BS, bias_1NSS), strict=False))

    return Probe(model=_model(graph), feeds=feeds)


def _float_input(matmul: ir.Node) -> ir.Value:
    """What the MatMul reads, before it is smoothed, shifted and quantised."""
    value = matmul.inputs[0]
    assert value is not None
    while (node := value.producer()) is not None and node.op_type in _QUANTISING and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def embedding_probe(model: ir.Model) -> Probe | None:
    """The fused embeddings alone, over the first rows of their tables; None where they are not fused."""
    fused = next((node for node in model.graph if node.op_type == "FusedEmbedLayerNorm"), None)
    if fused is None:
        return None
    ids = {i: ir.val(f"ids_{i}", _dtype(value)) for i, value in enumerate(fused.inputs) if i in _IDS and value is not None}
    initializers, nodes = list[ir.Value](), list[ir.Node]()
    weights = {
        i: _first_rows(f"weight_{i}", value, initializers, nodes)
        for i, value in enumerate(fused.inputs)
        if i not in _IDS and value is not None
    }
    if any(value is None for value in weights.values()):
        return None
    inputs = [(ids | weights).get(i) for i in range(len(fused.inputs))]
    node = ir.Node(DOMAIN, fused.op_type, inputs, fused.attributes.values(), overload=fused.overload, num_outputs=1)
    node.outputs[0].name = "embeddings_BSD"
    graph = ir.Graph(
        list(ids.values()), node.outputs, nodes=[*nodes, node], initializers=initializers, opset_imports={"": OPSET}, name="probe"
    )

    num_rows = min(
        table.const_value.numpy().shape[0] for table in initializers if table.const_value is not None and len(table.const_value.shape) == 2
    )
    dtypes = {f"ids_{i}": _dtype(fused.inputs[i]).numpy() for i in ids}

    def feeds(batch: int, length: int) -> Feeds:
        ids_BS = np.tile(np.arange(length) % num_rows, (batch, 1))
        return {name: ids_BS.astype(dtype) for name, dtype in dtypes.items()}

    return Probe(model=_model(graph), feeds=feeds)


def _first_rows(name: str, value: ir.Value, initializers: list[ir.Value], nodes: list[ir.Node]) -> ir.Value | None:
    """A weight cut to _NUM_ROWS rows, dequantised if it is in INT8; None for what is not a weight."""
    made = value.producer()
    if made is not None and made.op_type == "DequantizeLinear":
        parts = [_first_rows(f"{name}_{i}", part, initializers, nodes) for i, part in enumerate(made.inputs) if part is not None]
        nodes.append(ir.node("DequantizeLinear", parts, {"axis": 0}))
        nodes[-1].outputs[0].type = value.type
        return None if None in parts else nodes[-1].outputs[0]
    if value.const_value is None:
        return None
    array = value.const_value.numpy()
    is_table = array.ndim == 2 or "_" in name.removeprefix("weight_")  # with the scales of its rows
    initializers.append(ir.val(name, const_value=ir.tensor(array[:_NUM_ROWS] if is_table else array, name=name)))
    return initializers[-1]


def _dtype(value: ir.Value | None) -> ir.DataType:
    return value.dtype if value is not None and value.dtype is not None else ir.DataType.INT64


def _model(graph: ir.Graph) -> ir.Model:
    """A model of `graph`; what has no type is float32, the type of everything but ids in the fused graph of a CPU."""
    for value in (*graph.inputs, *graph.outputs):
        value.dtype = value.dtype or ir.DataType.FLOAT
    model = ir.Model(graph, ir_version=11)
    add_functions(model)
    return model
