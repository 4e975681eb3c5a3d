"""Turn the fused nodes of a model into the nodes that a runtime runs fastest: native ones, or their inlined bodies."""

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    InlinePass,
    RemoveUnusedFunctionsPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)

from trtbert.builders import attention, native
from trtbert.builders.site import CONTRIB, Site
from trtbert.config import Target
from trtbert.ops import DOMAIN
from trtbert.package import Lowering

BODY = "body"
"""The lowering that fits every fused node: its function body, inlined."""

Replace = Callable[[Site], ir.Value | None]
"""Records the nodes that compute a fused node and gives their result, or None (nothing recorded) where they do not fit."""

Lowerings = Mapping[str, Mapping[str, Replace]]
"""The native lowerings of each fused op, by the name of the op that does the work."""

Shared = dict[tuple[object, ...], ir.Value]
"""What several nodes of a model use, by what it is."""

ORT: Lowerings = {
    "FusedQkvAttention": {
        "Softmax": attention.softmax_attention,
        "Attention": attention.attention_3d,
        f"{CONTRIB}.MultiHeadAttention": attention.multi_head_attention,
        f"{CONTRIB}.Attention": attention.contrib_attention,
    },
    "FusedSkipLayerNorm": {
        "LayerNormalization": native.skip_layer_norm,
        f"{CONTRIB}.SkipLayerNormalization": native.contrib_skip_layer_norm,
    },
    "FusedBiasGelu": {
        "Gelu": native.bias_gelu,
        f"{CONTRIB}.BiasGelu": native.contrib_bias_gelu,
        f"{CONTRIB}.FastGelu": native.contrib_fast_gelu,
    },
    "FusedEmbedLayerNorm": {
        "LayerNormalization": native.embed_layer_norm,
        f"{CONTRIB}.EmbedLayerNormalization": native.contrib_embed_layer_norm,
    },
}

TENSORRT: Lowerings = {"FusedQkvAttention": {"Attention": attention.attention_4d}}
"""TensorRT fuses the other bodies by itself. Its Attention takes no float32: such a node keeps its body."""

TIDY = (InlinePass, RemoveUnusedFunctionsPass, CommonSubexpressionEliminationPass, RemoveUnusedNodesPass, RemoveUnusedOpsetsPass)


def lower(model: ir.Model, lowerings: Lowerings, choice: Mapping[str, str]) -> tuple[ir.Model, tuple[Lowering, ...]]:
    """A copy of `model` with no fused node left, and what became of each.

    `choice` names the lowering of each fused op; an op it does not name, and a node that it does not fit, is inlined.
    The weights are shared with `model`, which stays as it is.
    """
    lowered = model.clone()
    shared: Shared = {}
    natives = {op: {name: lowerings[op][name]} for op, name in choice.items() if name != BODY}
    records = []
    for node in fused_nodes(lowered):
        records.append(Lowering(node=node.name or "", op=node.op_type, lowering=lower_node(lowered.graph, node, natives, shared)))
    lowered.graph.opset_imports[CONTRIB] = 1
    tidy(lowered)
    return lowered, tuple(records)


def lower_for_tensorrt(model: ir.Model, target: Target) -> tuple[ir.Model, tuple[Lowering, ...]]:
    """Attention as the standard op in half precision, everything else as its body; no fused node is left."""
    return lower(model, TENSORRT, {op: name for op, names in natives_of(target).items() for name in names})


def natives_of(target: Target) -> Lowerings:
    """What `target`'s TensorRT has native ops for: the parsers of Volta's, up to 10.4, do not know Attention."""
    return {} if target == "sm70" else TENSORRT


def fused_nodes(model: ir.Model) -> Sequence[ir.Node]:
    return [node for node in model.graph if node.domain == DOMAIN]


def lower_node(graph: ir.Graph, node: ir.Node, lowerings: Lowerings, shared: Shared) -> str:
    """Put the first native lowering that fits in place of the node, and give its name; BODY, and nothing done, where none does."""
    for name, replace in lowerings.get(node.op_type, {}).items():
        if _replace(graph, node, replace, shared):
            return name
    return BODY


def tidy(model: ir.Model) -> None:
    """Inline the bodies of the fused nodes that are left, and remove what nobody needs any more."""
    for tidy_pass in TIDY:
        tidy_pass()(model)


def with_query_axis(model: ir.Model) -> ir.Model:
    """A copy of a graph lowered for TensorRT that ONNX Runtime's CPU provider runs: its Attention does not broadcast masks.

    Every mask [B,1|N,1|S,S] of a 4D Attention becomes [B,1|N,S,S].
    """
    copy = model.clone()
    for node in [node for node in copy.graph if node.op_type == "Attention" and node.domain == ""]:
        tape = ir.tape.Tape()
        ones = tape.initializer(ir.tensor([1, 1], name=f"{node.name}.ones"))
        one = tape.initializer(ir.tensor([1], name=f"{node.name}.one"))
        length = tape.op("Shape", [node.inputs[0]], {"start": 2, "end": 3})
        shape = tape.op("Concat", [ones, length, one], {"axis": 0})
        node.replace_input_with(3, tape.op("Expand", [node.inputs[3], shape]))
        for value in tape.initializers:
            copy.graph.register_initializer(value)
        copy.graph.insert_before(node, tape.nodes)
    return copy


def _replace(graph: ir.Graph, node: ir.Node, replace: Replace, shared: Shared) -> bool:
    site = Site(node=node, tape=ir.tape.Tape(), shared=shared)
    value = replace(site)
    if value is None:
        return False
    value.type, value.shape = node.outputs[0].type, node.outputs[0].shape
    for weight in site.tape.initializers:
        graph.register_initializer(weight)
    ir.convenience.replace_nodes_and_values(graph, node, [node], site.tape.nodes, node.outputs, [value])
    return True
