"""Small graphs whose every number a test chooses: x [B,S,K] are rows of a table [V,K], by the ids.

Legend: B batch, S sequence, V rows of the table, K inputs, N outputs, R rows.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from trtbert.bodies import add_functions
from trtbert.calibrate.collect import Feeds, Statistics, Tensor, collect
from trtbert.calibrate.gemms import Gemm, find_gemms
from trtbert.ops import DOMAIN, OPSET

Array = npt.NDArray[Any]


class Graph:
    """Writes nodes; x is there from the start."""

    def __init__(self, table_VK: Array) -> None:
        self.inputs = [ir.val(name, ir.DataType.INT32, ["batch", "sequence"]) for name in ("input_ids", "attention_mask")]
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []
        self.x = self.node("x", "Gather", self.constant("table", table_VK), self.inputs[0])

    def constant(self, name: str, array: Array) -> ir.Value:
        array = array if array.dtype.kind in "iu" else array.astype(np.float32)
        self.constants.append(ir.val(name, const_value=ir.tensor(array, name=name)))
        return self.constants[-1]

    def node(self, name: str, op_type: str, *inputs: ir.Value, overload: str = "", **attributes: Any) -> ir.Value:
        """The result `name` of an op, of a fused one where its name begins so."""
        domain = DOMAIN if op_type.startswith("Fused") else ""
        node = ir.node(op_type, inputs, attributes, domain=domain, overload=overload, name=name)
        node.outputs[0].name, node.outputs[0].dtype = name, ir.DataType.FLOAT
        self.nodes.append(node)
        return node.outputs[0]

    def model(self, *results: ir.Value) -> ir.Model:
        graph = ir.Graph(self.inputs, results, nodes=self.nodes, initializers=self.constants, opset_imports={"": OPSET}, name="graph")
        for value in results:
            value.shape = value.shape or ir.Shape(["batch", "sequence", "width"])
        model = ir.Model(graph, ir_version=11)
        add_functions(model)
        return model


def gemm_model(table_VK: Array, weight_KN: Array, bias_N: Array | None = None, behind: str = "Add") -> ir.Model:
    """y = x + x W + bias with K = N, the bias in an Add, a FusedSkipLayerNorm or a FusedBiasGelu: as `behind` says."""
    graph = Graph(table_VK)
    product = graph.node("product", "MatMul", graph.x, graph.constant("weight", weight_KN))
    if bias_N is None:
        return graph.model(graph.node("y", "Add", product, graph.x))
    bias = graph.constant("bias", bias_N)
    if behind == "FusedSkipLayerNorm":
        gamma, beta = graph.constant("gamma", np.linspace(0.5, 1.5, len(bias_N))), graph.constant("beta", np.full(len(bias_N), 0.1))
        return graph.model(graph.node("y", behind, product, graph.x, gamma, beta, bias, overload="bias", epsilon=1e-12))
    biased = (
        graph.node("biased", "Add", bias, product) if behind == "Add" else graph.node("gelu", behind, product, bias, approximate="none")
    )
    return graph.model(graph.node("y", "Add", biased, graph.x))


def all_rows(num_rows: int, num_texts: int = 1) -> Feeds:
    """Every row of the table once, none of them padding."""
    ids_BS = np.arange(num_rows, dtype=np.int32).reshape(num_texts, -1)
    return {"input_ids": ids_BS, "attention_mask": np.ones_like(ids_BS)}


def statistics_of(model: ir.Model, feeds: Feeds, factors_K: Array | None = None) -> Statistics:
    """Of x, times its factors if there are any."""
    return collect(model, [Tensor("x", "x")], lambda: [feeds], factors={} if factors_K is None else {"x": factors_K})["x"]


def only_gemm(model: ir.Model) -> Gemm:
    (gemm,) = find_gemms(model.graph)
    return gemm


def rounded(array: Array, scale: Array | float) -> Array:
    """What INT8 makes of it, in float64."""
    scale64 = np.asarray(scale, np.float64)
    return np.clip(np.rint(np.asarray(array, np.float64) / scale64), -127, 127) * scale64


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]
