"""A fused graph -> the GEMMs of its encoder layers that may be computed in INT8, each with its layer and its part in it.

A GEMM of the encoder is a MatMul with a constant weight [K,N] that flows into a residual sum: pooler, task head and position
tables do not. What part it has is read from where it leads, so that families whose attention is not fused are understood as well.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from trtbert.config import Quantize
from trtbert.ops import DOMAIN, FUSED_QKV_ATTENTION, FUSED_SKIP_LAYER_NORM

Role = Literal["projection", "qkv", "attention output", "ffn up", "ffn down"]

_FFN: frozenset[Role] = frozenset({"ffn up", "ffn down"})
_SHAPES = ("Shape", "Size")
_ANCHORS = (FUSED_QKV_ATTENTION.name, "Attention", "Softmax")
"""One of them stands in each layer."""


@dataclass(frozen=True, kw_only=True)
class Gemm:
    """x [...,K] times weight [K,N]."""

    node: ir.Node
    layer: int
    role: Role

    @property
    def key(self) -> str:
        """The name of its result, which is the same in every copy of the graph."""
        return str(self.node.outputs[0].name)

    @property
    def label(self) -> str:
        return "embeddings projection" if self.role == "projection" else f"layer {self.layer} {self.role}"

    @property
    def x(self) -> ir.Value:
        value = self.node.inputs[0]
        assert value is not None
        return value

    @property
    def weight(self) -> ir.Value:
        value = self.node.inputs[1]
        assert value is not None
        return value


def find_gemms(graph: ir.Graph, quantize: Quantize = "linear") -> list[Gemm]:
    """The GEMMs that the preset `quantize` makes INT8, in the order of the graph."""
    body = _encoder(graph)
    found: list[Gemm] = []
    num_layers = 0
    for node in graph:
        if node not in body:
            continue
        if node.op_type in _ANCHORS:
            num_layers += 1
        elif _is_gemm(node) and _reads_texts(node):
            found.append(_described(node, found, num_layers))
    return [gemm for gemm in found if quantize != "ffn" or gemm.role in _FFN]


def _described(node: ir.Node, before: list[Gemm], num_layers: int) -> Gemm:
    layer = num_layers - 1
    if _meets_attention(node, _consumers):
        return Gemm(node=node, layer=num_layers, role="qkv")
    if layer < 0:
        return Gemm(node=node, layer=0, role="projection")
    if _meets_attention(node, _producers):
        return Gemm(node=node, layer=layer, role="attention output")
    is_second = any(gemm.layer == layer and gemm.role == "ffn up" for gemm in before)
    return Gemm(node=node, layer=layer, role="ffn down" if is_second else "ffn up")


def _encoder(graph: ir.Graph) -> set[ir.Node]:
    """The nodes that the last residual sum is made of."""
    residuals = [node for node in graph if _is_residual(node)]
    return _reached(residuals[-1:], _producers, lambda node: True)


def _is_residual(node: ir.Node) -> bool:
    """A FusedSkipLayerNorm, or a sum of two computed tensors (of an unfused family; no head has one)."""
    if node.op_type == FUSED_SKIP_LAYER_NORM.name:
        return True
    is_sum = node.domain == "" and node.op_type in ("Add", "Sum") and node.outputs[0].dtype == ir.DataType.FLOAT
    return is_sum and all(value is not None and value.producer() is not None for value in node.inputs)


def _is_gemm(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type != "MatMul" or node.inputs[0] is None or node.inputs[0].const_value is not None:
        return False
    weight = node.inputs[1]
    return weight is not None and weight.const_value is not None and len(weight.const_value.shape) == 2


def _reads_texts(node: ir.Node) -> bool:
    """Whether its input comes from a graph input, and not from the shape of one alone, as DeBERTa's tables of positions do."""
    before = _reached([node], _producers, lambda other: other.op_type not in _SHAPES)
    return any(value is not None and value.is_graph_input() for other in before if other.op_type not in _SHAPES for value in other.inputs)


def _is_attention(node: ir.Node) -> bool:
    """Fused or standard attention, or a product of two computed tensors."""
    if node.op_type in (FUSED_QKV_ATTENTION.name, "Attention"):
        return node.domain in ("", DOMAIN)
    return node.op_type == "MatMul" and all(value is not None and value.const_value is None for value in node.inputs)


def _meets_attention(node: ir.Node, neighbours: Callable[[ir.Node], Iterable[ir.Node]]) -> bool:
    """Whether a way in that direction leads to the attention with no other GEMM between."""
    return any(map(_is_attention, _reached([node], neighbours, _is_between)))


def _is_between(node: ir.Node) -> bool:
    return not _is_gemm(node) and not _is_attention(node) and node.op_type not in _SHAPES


def _consumers(node: ir.Node) -> Iterable[ir.Node]:
    return (consumer for value in node.outputs for consumer in value.consumers())


def _producers(node: ir.Node) -> Iterable[ir.Node]:
    return (made for value in node.inputs if value is not None and (made := value.producer()) is not None)


def _reached(
    starts: Iterable[ir.Node], neighbours: Callable[[ir.Node], Iterable[ir.Node]], is_passed: Callable[[ir.Node], bool]
) -> set[ir.Node]:
    """The start nodes and all that can be reached from them through nodes that are passed."""
    starts = list(starts)
    found, waiting = set(starts), starts[:]
    while waiting:
        for other in neighbours(waiting.pop()):
            if other not in found:
                found.add(other)
                if is_passed(other):
                    waiting.append(other)
    return found
