"""Stage `rewrite`: a graph of standard ops -> the same graph with fused nodes, their counts, and every miss with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from trtbert.architectures import ARCHITECTURES
from trtbert.bodies import add_functions
from trtbert.errors import FusionError
from trtbert.ops import FUSED_BIAS_GELU, FUSED_EMBED_LAYER_NORM, FUSED_OPS, FUSED_QKV_ATTENTION, FUSED_SKIP_LAYER_NORM, UNFUSED
from trtbert.package import Unfused
from trtbert.rewrite import attention, cleanup, embeddings, gelu, layer_norm
from trtbert.rewrite.probe import Probe
from trtbert.rewrite.rule import Missed, apply

# (rule, the fused op that its misses count against), in the order they are applied.
RULES = (
    (gelu.canonical, FUSED_BIAS_GELU.name),
    (layer_norm.canonical, FUSED_SKIP_LAYER_NORM.name),
    (attention.rule, FUSED_QKV_ATTENTION.name),
    (embeddings.rule, FUSED_EMBED_LAYER_NORM.name),
    (layer_norm.rule, FUSED_SKIP_LAYER_NORM.name),
    (gelu.rule, FUSED_BIAS_GELU.name),
)


@dataclass(frozen=True)
class Rewritten:
    """The fused model, how often each fused op was made, and every place where one was not."""

    model: ir.Model
    fusions: dict[str, int]
    unfused: tuple[Unfused, ...]


def rewrite(model: ir.Model, *, architecture: str, num_layers: int | None, allow_unfused: bool = False) -> Rewritten:
    """Fuse `model` (opset 23, inputs of trtbert.tasks) and give it the function bodies of its fused nodes.

    Raises FusionError where a fusion did not fire, unless the architecture or the metadata of the model says why, or `allow_unfused`.
    """
    model = model.clone()
    cleanup.fold(model)
    probe = Probe(model.graph)
    counts = dict.fromkeys(FUSED_OPS, 0)
    misses: list[tuple[str, Missed]] = []
    for rule, op in RULES:
        count, missed = apply(rule, model, probe)
        if rule.op in counts:
            counts[rule.op] += count
        misses += [(op, miss) for miss in missed]
    cleanup.finish(model)
    add_functions(model)
    by_nature = _unfused_by_nature(model, architecture)
    unfused = tuple(
        Unfused(rule=op, node=str(miss.node.name), reason="; ".join(filter(None, (miss.reason, by_nature.get(op))))) for op, miss in misses
    )
    problems = _problems(by_nature, num_layers, counts, misses)
    if problems and not allow_unfused:
        raise FusionError(
            "A fusion did not fire where it must:\n  "
            + "\n  ".join(problems)
            + "\nIf the unfused model is good enough for you, go on with --allow-unfused; the manifest then records it."
        )
    return Rewritten(model, counts, unfused)


def _unfused_by_nature(model: ir.Model, architecture: str) -> dict[str, str]:
    """Fused ops that the model cannot have, with the reason."""
    reasons = {op: reason for op in FUSED_OPS if (reason := model.metadata_props.get(UNFUSED + op)) is not None}
    return dict(ARCHITECTURES[architecture].unfused if architecture in ARCHITECTURES else {}) | reasons


def _problems(by_nature: Mapping[str, str], num_layers: int | None, counts: dict[str, int], misses: list[tuple[str, Missed]]) -> list[str]:
    """One line for each required fused op that is missing somewhere: how many of how many, and the nearest miss."""
    expected: dict[str, int | None] = {
        FUSED_EMBED_LAYER_NORM.name: 1,
        FUSED_QKV_ATTENTION.name: num_layers,
        FUSED_SKIP_LAYER_NORM.name: None if num_layers is None else 2 * num_layers,
        FUSED_BIAS_GELU.name: None,  # a model with ReLU has none
    }
    problems = []
    for op, count in expected.items():
        if op in by_nature:
            continue
        required = [miss for missed_op, miss in misses if missed_op == op and miss.is_required]
        total = max(count or 0, counts[op] + len(required), 1 if op == FUSED_QKV_ATTENTION.name else 0)
        if counts[op] < total:
            nearest = f"node {required[0].node.name!r}: {required[0].reason}" if required else "nothing in the graph looks like it"
            problems.append(f"{op}: fused {counts[op]} of {total}; {nearest}")
    return problems
