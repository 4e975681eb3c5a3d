"""What the preset `full` quantises beside the GEMMs: the products of attention, and the residual that is added to a GEMM's result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from trtbert.calibrate.collect import Statistics, Tensor
from trtbert.calibrate.qdq import producer_of, quantize_dequantize, scale_of
from trtbert.calibrate.thresholds import Histogram
from trtbert.ops import FUSED_QKV_ATTENTION, FUSED_SKIP_LAYER_NORM, qkv_columns

_SCALES = ("q_scale", "k_scale", "v_scale")


@dataclass(frozen=True, kw_only=True)
class AttentionPlan:
    """The scales of q, k and v of one FusedQkvAttention; probabilities, up to 1, have the scale 1/127."""

    key: str
    label: str
    scales: tuple[float, ...]

    def apply(self, graph: ir.Graph) -> None:
        node = producer_of(graph, self.key)
        for name, scale in zip((*_SCALES, "probability_scale"), (*self.scales, float(scale_of(1.0))), strict=True):
            node.attributes[name] = ir.AttrFloat32(name, scale)
        node.overload = ".".join(filter(None, (node.overload, "int8")))


@dataclass(frozen=True, kw_only=True)
class ResidualPlan:
    """Q/DQ on the residual of one FusedSkipLayerNorm: TensorRT then adds it inside the GEMM before."""

    key: str
    label: str
    index: int
    """Of the input that is the residual."""
    scale: float

    def apply(self, graph: ir.Graph) -> None:
        node = producer_of(graph, self.key)
        value = node.inputs[self.index]
        assert value is not None
        node.replace_input_with(self.index, quantize_dequantize(graph, value, self.scale, before=node))


def full_tensors(graph: ir.Graph) -> list[Tensor]:
    """q, k and v of each attention, and each residual."""
    tensors = []
    for node in graph:
        if node.op_type == FUSED_QKV_ATTENTION.name:
            sizes = (node.attributes.get_int(name, 0) for name in ("num_heads", "head_size", "num_kv_heads"))
            pairs = ((columns.start, columns.stop) for columns in qkv_columns(*sizes))
            tensors += [Tensor(_key(node, i), str(_input(node, 0).name), pair) for i, pair in enumerate(pairs)]
        elif (index := _residual(node)) is not None:
            tensors.append(Tensor(_key(node, index), str(_input(node, index).name)))
    return tensors


def plan_full(
    graph: ir.Graph, statistics: Mapping[str, Statistics], method: Callable[[Histogram], float]
) -> list[AttentionPlan | ResidualPlan]:
    """A plan for each attention and each residual whose tensors are not 0 throughout."""
    plans: list[AttentionPlan | ResidualPlan] = []
    num_layers = num_residuals = 0

    def scale(node: ir.Node, index: int) -> float:
        return float(scale_of(method(statistics[_key(node, index)].histogram)))

    for node in graph:
        key = str(node.outputs[0].name)
        if node.op_type == FUSED_QKV_ATTENTION.name:
            if all(statistics[_key(node, index)].histogram.maximum > 0 for index in range(3)):
                scales = tuple(scale(node, index) for index in range(3))
                plans.append(AttentionPlan(key=key, label=f"layer {num_layers} attention products", scales=scales))
            num_layers += 1
        elif (index := _residual(node)) is not None:
            place = "attention" if num_residuals % 2 == 0 else "ffn"
            label = f"layer {num_residuals // 2} {place} residual"
            if statistics[_key(node, index)].histogram.maximum > 0:
                plans.append(ResidualPlan(key=key, label=label, index=index, scale=scale(node, index)))
            num_residuals += 1
    return plans


def _residual(node: ir.Node) -> int | None:
    """Which input of a FusedSkipLayerNorm is the residual: not the one that a MatMul makes for it alone; None for another op."""
    if node.op_type != FUSED_SKIP_LAYER_NORM.name:
        return None
    is_product = [_is_product(_input(node, index)) for index in (0, 1)]
    return is_product.index(False) if sum(is_product) == 1 else None


def _is_product(value: ir.Value) -> bool:
    made = value.producer()
    return made is not None and made.op_type in ("MatMul", "Add") and len(value.uses()) == 1


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _key(node: ir.Node, index: int) -> str:
    return f"{node.outputs[0].name}/{index}"
