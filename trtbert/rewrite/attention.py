"""Projections, scores, mask, softmax and context -> one packed QKV MatMul and one FusedQkvAttention.

Any spelling is taken: operands or scores scaled, masks added or selected, the Attention op of opset 23. The head count is
read from the arrays of the layer itself, never from a config. The proposal is then computed on the probe and compared.

Legend: B batch, S sequence, D hidden, N heads, H head size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from trtbert.ops import FUSED_QKV_ATTENTION, Array, fused_qkv_attention
from trtbert.rewrite.probe import Probe
from trtbert.rewrite.rule import Fusion, Rule, check_equal, fused_node
from trtbert.rewrite.walk import NO_OPS, Linear, Miss, array_of, initializer, is_constant, linear, only_use, producer, skip_back
from trtbert.tasks import ATTENTION_MASK, INPUT_IDS

_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"}) | NO_OPS
_LAYOUT = _RESHAPES | {"Transpose"}
_MASKED_BELOW = -1e3
"""A score this low is a masked one: exporters write -1e4, -1e9, -FLT_MAX or -inf."""


@dataclass
class _Scores:
    """scale * query keyᵀ + addends, kept where the conditions say so."""

    query: ir.Value
    key: ir.Value
    scale: float
    addends: list[ir.Value] = field(default_factory=list)
    conditions: list[tuple[ir.Value, bool]] = field(default_factory=list)
    """(condition, whether True keeps the score)."""


@dataclass(frozen=True)
class _Core:
    """The scores, the value they weigh, and the weighted values."""

    scores: _Scores
    value: ir.Value
    context: ir.Value


def _describe(node: ir.Node | None) -> str:
    return "a graph input" if node is None else f"node {node.name!r} ({node.op_type})"


def _unscaled(node: ir.Node | None, probe: Probe) -> tuple[ir.Value, float] | None:
    """(operand, factor) if `node` multiplies or divides a tensor by one number."""
    if node is None or node.op_type not in {"Mul", "Div"}:
        return None
    a, b = node.inputs
    assert a is not None and b is not None
    for operand, other in ((a, b), (b, a)) if node.op_type == "Mul" else ((a, b),):
        factor = probe.scalar(other)
        if factor is not None and probe[operand][0].size > 1:
            return operand, factor if node.op_type == "Mul" else 1.0 / factor
    return None


def _projection(value: ir.Value, name: str, probe: Probe) -> tuple[Linear, float]:
    """The linear layer that gives the query, key or value, and the number it is multiplied by on its way."""
    scale = 1.0
    while (found := linear(value)) is None:
        node = value.producer()
        if node is not None and node.op_type in _LAYOUT and node.inputs[0] is not None:
            value = node.inputs[0]
        elif (step := _unscaled(node, probe)) is not None:
            value, scale = step[0], scale * step[1]
        else:
            raise Miss(f"{_describe(node)} stands between the {name}'s projection and the scores")
    return found, scale


def _is_product(value: ir.Value, probe: Probe) -> bool:
    """Whether the MatMul of two computed tensors is reached from here by the steps that `_walk_scores` takes."""
    node = value.producer()
    if node is None or node.domain != "":
        return False
    if node.op_type == "MatMul":
        return not any(is_constant(v) for v in node.inputs)
    if (step := _unscaled(node, probe)) is not None:
        return _is_product(step[0], probe)
    inputs = node.inputs[:1] if node.op_type in _RESHAPES else node.inputs if node.op_type in {"Add", "Where"} else ()
    return any(v is not None and _is_product(v, probe) for v in inputs)


def _walk_scores(value: ir.Value, probe: Probe) -> _Scores:
    """Back from the input of the softmax to the product of query and key."""
    scale, addends, conditions = 1.0, list[ir.Value](), list[tuple[ir.Value, bool]]()
    while True:
        node = value.producer()
        inputs = [] if node is None else [v for v in node.inputs if v is not None]
        if node is not None and node.op_type == "MatMul" and not any(is_constant(v) for v in inputs):
            return _Scores(inputs[0], inputs[1], scale, addends, conditions)
        if node is not None and node.op_type in _RESHAPES:
            value = inputs[0]
        elif (step := _unscaled(node, probe)) is not None:
            value, scale = step[0], scale * step[1]
        elif node is not None and node.op_type == "Add":
            products = [v for v in inputs if _is_product(v, probe)]
            if not products:
                raise Miss(f"no summand of {_describe(node)} is query times key, scaled by one number")
            if len(products) > 1:
                raise Miss(f"{_describe(node)} adds {len(products)} products: more than query times key enters the scores")
            value = products[0]
            addends += [v for v in inputs if v is not value]
        elif node is not None and node.op_type == "Where":
            is_kept_by_true = _is_product(inputs[1], probe)
            value, masked = (inputs[1], inputs[2]) if is_kept_by_true else (inputs[2], inputs[1])
            if any((array > _MASKED_BELOW).any() for array in probe[masked]):
                raise Miss(f"{_describe(node)} puts numbers above {_MASKED_BELOW:g} in the place of scores")
            conditions.append((inputs[0], is_kept_by_true))
        else:
            raise Miss(f"{_describe(node)} stands between the scores and the softmax")


def _core_from_softmax(anchor: ir.Node, probe: Probe) -> _Core | None:
    """The attention around a Softmax, None if it is the softmax of a head."""
    weights = anchor.outputs[0]
    nan_guard = next((n for n, index in weights.uses() if n.op_type == "Where" and producer(n.inputs[0], {"IsNaN"}) and index), None)
    if nan_guard is not None:  # torch gives 0 where every key is masked
        weights = nan_guard.outputs[0]
    while (node := only_use(weights)) is not None and node.op_type in _RESHAPES:
        weights = node.outputs[0]
    scores, value = anchor.inputs[0], None if node is None or node.op_type != "MatMul" else node.inputs[1]
    assert scores is not None
    if node is None or node.inputs[0] is not weights or value is None or is_constant(value):
        if _is_product(scores, probe):
            reader = "more than one node" if node is None else _describe(node)
            raise Miss(f"{reader} changes or reads the weights after the softmax (a mask added after it?)")
        return None
    return _Core(_walk_scores(scores, probe), value, node.outputs[0])


def _core_from_attention(anchor: ir.Node, probe: Probe) -> _Core:
    """The attention that is one standard Attention node."""
    query, key, value, mask, *past = (*anchor.inputs, None)[: max(4, len(anchor.inputs))]
    attributes = anchor.attributes
    assert query is not None and key is not None and value is not None
    if any(v is not None for v in past):
        raise Miss("it has past keys and values")
    if attributes.get_int("is_causal", 0) or attributes.get_float("softcap"):
        raise Miss("it is causal or caps its scores")
    scores = _Scores(query, key, attributes.get_float("scale") or float(_head_size(query, anchor, probe) ** -0.5))
    if mask is not None and mask.dtype == ir.DataType.BOOL:
        scores.conditions.append((mask, True))
    elif mask is not None:
        add = None if _is_additive_mask(mask, probe) else producer(mask, {"Add"})
        scores.addends += [mask] if add is None else [v for v in add.inputs if v is not None]
    return _Core(scores, value, anchor.outputs[0])


def _head_size(query: ir.Value, anchor: ir.Node, probe: Probe) -> int:
    shape = probe[query][0].shape
    is_packed = anchor.op_type == "Attention" and len(shape) == 3
    return int(shape[-1] // anchor.attributes.get_int("q_num_heads", 1)) if is_packed else int(shape[-1])


def _masks(probe: Probe) -> tuple[Array, ...]:
    return next((probe[value] for value in probe if value.is_graph_input() and value.name == ATTENTION_MASK), ())


def _keeps_unmasked_keys(value: ir.Value, probe: Probe, is_kept: Callable[[Array], Array]) -> bool:
    """Whether `is_kept(value)` is the attention mask over the keys, whatever the query, on every probe run."""
    for array, mask in zip(probe[value], _masks(probe), strict=False):
        (batch, length), kept = mask.shape, is_kept(array)
        if kept.ndim != 4 or kept.shape[-1] != length or kept.shape[-2] not in (1, length) or kept.shape[0] not in (1, batch):
            return False
        if not (kept == (mask != 0)[:, None, None, :]).all():
            return False
    return bool(_masks(probe))


def _is_additive_mask(value: ir.Value, probe: Probe) -> bool:
    is_two_valued = all(((array == 0) | (array < _MASKED_BELOW)).all() for array in probe[value])
    return is_two_valued and _keeps_unmasked_keys(value, probe, lambda array: np.asarray(array == 0))


def _is_bias(value: ir.Value, probe: Probe, num_heads: int, lengths: Sequence[int]) -> bool:
    """[1,N,S,S]: the same for every text."""
    return [array.shape for array in probe[value]] == [(1, num_heads, length, length) for length in lengths]


def _mask_and_bias(scores: _Scores, probe: Probe, num_heads: int, lengths: Sequence[int]) -> tuple[bool, ir.Value | None]:
    """Whether padding is masked, and the relative-position bias if there is one."""
    is_masked, bias = bool(scores.conditions), None
    for addend in scores.addends:
        unexpanded = skip_back(addend, NO_OPS | {"Expand"})
        if _is_additive_mask(addend, probe):
            is_masked = True
        elif bias is None and _is_bias(unexpanded, probe, num_heads, lengths):
            bias = unexpanded
        else:
            raise Miss(f"the summand {addend.name!r} of the scores is neither the padding mask nor a [1,N,S,S] position bias")
    for condition, is_kept_by_true in scores.conditions:
        if not _keeps_unmasked_keys(condition, probe, lambda array, kept=is_kept_by_true: np.asarray((array != 0) == kept)):  # type: ignore[misc]
            raise Miss(f"the condition {condition.name!r} is not the attention mask over the keys (a causal or a local mask?)")
    return is_masked, bias


def _merged_output(context: ir.Value, shapes: Sequence[tuple[int, ...]], probe: Probe) -> ir.Value:
    """Forward from the weighted values to the [B,S,N*H] tensor that the output projection reads."""
    while [array.shape for array in probe[context]] != list(shapes):
        node = only_use(context)
        if node is None or node.op_type not in _LAYOUT:
            raise Miss("its weighted values are not laid out as [batch, sequence, heads * head size]")
        context = node.outputs[0]
    return context


def _joined(graph: ir.Graph, values: Sequence[ir.Value | None], arrays: Sequence[Array]) -> ir.Value:
    """The initializer that holds `arrays` side by side; the same one for the same values, so that shared layers stay shared."""
    name = "+".join(str(None if v is None else v.name) for v in values)
    if name not in graph.initializers:
        tensor = ir.tensor(np.concatenate(arrays, axis=-1), name=name)
        graph.register_initializer(initializer(tensor))
    return graph.initializers[name]


def _widths(parts: Sequence[Linear]) -> tuple[int, int]:
    """Columns of the query, and of the key and the value, which may share their heads among those of the query."""
    width, *others = (array_of(part.weight).shape[1] for part in parts)
    if len({part.x for part in parts}) != 1 or len(set(others)) != 1 or width % others[0]:
        raise Miss(f"query, key and value are not projections of one tensor to fitting widths ({width}, {others[0]}, {others[1]})")
    return width, others[0]


def find_attention(anchor: ir.Node, probe: Probe) -> Fusion | None:
    core = _core_from_attention(anchor, probe) if anchor.op_type == "Attention" else _core_from_softmax(anchor, probe)
    if core is None:
        return None
    operands = (("query", core.scores.query), ("key", core.scores.key), ("value", core.value))
    parts, scales = zip(*(_projection(operand, name, probe) for name, operand in operands), strict=True)
    width, kv_width, head_size = *_widths(parts), _head_size(core.scores.query, anchor, probe)
    if width % head_size or kv_width % head_size or scales[2] != 1.0:
        raise Miss(f"its {width} and {kv_width} columns are not whole heads of {head_size}, or its value is scaled by {scales[2]}")
    x = parts[0].x
    lengths = [array.shape[1] for array in probe[x]]
    is_masked, bias = _mask_and_bias(core.scores, probe, width // head_size, lengths)
    output = _merged_output(core.context, [(*array.shape[:2], width) for array in probe[x]], probe)

    weights = [array_of(part.weight) for part in parts]
    biases = [
        np.zeros(w.shape[1], np.float32) if part.bias is None else array_of(part.bias) for part, w in zip(parts, weights, strict=True)
    ]
    attributes = {"num_heads": width // head_size, "head_size": head_size, "scale": core.scores.scale * scales[0] * scales[1]}
    if kv_width != width:
        if bias is not None:
            raise Miss("it has a position bias, and fewer heads of keys and values than of queries")
        attributes["num_kv_heads"] = kv_width // head_size
    _prove(x, weights, biases, is_masked, bias, attributes, output, probe)

    graph = anchor.graph
    assert graph is not None
    nodes = [ir.node("MatMul", [x, _joined(graph, [p.weight for p in parts], weights)], name=f"{anchor.name}.qkv")]
    if any(part.bias is not None for part in parts):
        nodes.append(ir.node("Add", [nodes[0].outputs[0], _joined(graph, [p.bias for p in parts], biases)], name=f"{anchor.name}.qkv_bias"))
    for node in nodes:
        node.outputs[0].dtype, node.outputs[0].shape = x.dtype, ir.Shape([None, None, width + 2 * kv_width])
    qkv, mask_nodes = nodes[-1].outputs[0], [] if is_masked else _no_mask(graph)
    mask = mask_nodes[-1].outputs[0] if mask_nodes else _graph_input(graph, ATTENTION_MASK)
    inputs = [qkv, mask] if bias is None else [qkv, mask, bias]
    overload = FUSED_QKV_ATTENTION.overload(len(inputs), attributes)
    fused = fused_node(FUSED_QKV_ATTENTION.name, inputs, attributes, overload=overload, name=f"{anchor.name}.fused")
    return Fusion(output, (*nodes, *mask_nodes, fused))


def _prove(
    x: ir.Value,
    weights: Sequence[Array],
    biases: Sequence[Array],
    is_masked: bool,
    bias: ir.Value | None,
    attributes: dict[str, int | float],
    output: ir.Value,
    probe: Probe,
) -> None:
    """Compute the fused op on the probe in float64 and compare it with what the graph computes."""
    proposed = []
    for run, array in enumerate(probe[x]):
        qkv = np.concatenate([array @ weight + b for weight, b in zip(weights, biases, strict=True)], axis=-1)
        mask = _masks(probe)[run] if is_masked else np.ones(array.shape[:2], np.int32)
        proposed.append(fused_qkv_attention(qkv, mask, None if bias is None else probe[bias][run], **attributes))  # type: ignore[arg-type]
    check_equal("a FusedQkvAttention", proposed, probe[output])


def _graph_input(graph: ir.Graph, name: str) -> ir.Value:
    return next(value for value in graph.inputs if value.name == name)


def _no_mask(graph: ir.Graph) -> list[ir.Node]:
    """A mask of ones, for a model that attends to padding."""
    shape = ir.node("Shape", [_graph_input(graph, INPUT_IDS)])
    return [shape, ir.node("ConstantOfShape", shape.outputs, {"value": ir.tensor(np.ones(1, np.int32))})]


rule = Rule(op=FUSED_QKV_ATTENTION.name, anchors=frozenset({"Softmax", "Attention"}), find=find_attention)
