"""What a fusion rule is, and how one is applied: every place where it could fire is fused or reported with the reason."""

import copy
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from trtbert.ops import DOMAIN, Array
from trtbert.rewrite.probe import Probe
from trtbert.rewrite.walk import Miss

Attributes = dict[str, int | float | str]
logger = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Largest error of a proposed fusion on the probe, relative to the largest output: wiring mistakes show as errors near 1."""


@dataclass(frozen=True)
class Fusion:
    """A proved replacement: `nodes` (in order) compute `new`, which takes the place of `old`."""

    old: ir.Value
    nodes: tuple[ir.Node, ...]

    @property
    def new(self) -> ir.Value:
        return self.nodes[-1].outputs[0]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One fusion: `anchors` are the ops where it may begin, `find` proposes and proves a replacement or raises Miss.

    `find` returns None where the anchor is some other use of the op.
    """

    op: str
    anchors: frozenset[str]
    find: Callable[[ir.Node, Probe], Fusion | None]


@dataclass(frozen=True)
class Missed:
    """A place where a rule did not fire."""

    node: ir.Node
    reason: str
    is_required: bool


def apply(rule: Rule, model: ir.Model, probe: Probe) -> tuple[int, list[Missed]]:
    """Apply `rule` everywhere; gives the number of fusions and the places where it did not fire."""
    graph, count, missed = model.graph, 0, []
    for node in [n for n in graph if n.op_type in rule.anchors and n.domain == ""]:
        if node.graph is None:
            continue  # an earlier fusion took it away
        try:
            fusion = rule.find(node, probe)
        except Miss as miss:
            missed.append(Missed(node, str(miss), miss.is_required))
            continue
        if fusion is not None:
            replace(graph, fusion, probe)
            count += 1
    common.RemoveUnusedNodesPass()(model)  # what still reads a fused part would hide it from the next rule
    logger.info("%s: fused %d, missed %d", rule.op, count, len(missed))
    return count, missed


def replace(graph: ir.Graph, fusion: Fusion, probe: Probe) -> None:
    """Put the fusion's nodes in place of the node that computes its old value; what nobody reads any more is removed later."""
    old, new = fusion.old, fusion.new
    node = old.producer()
    assert node is not None
    name, old.name = old.name, f"{old.name}.unfused"
    new.type, new.shape, new.name = copy.copy(old.type), old.shape, name
    graph.insert_before(node, fusion.nodes)
    probe.alias(new, old)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def fused_node(op: str, inputs: Iterable[ir.Value], attributes: Attributes, *, overload: str = "", name: str) -> ir.Node:
    """A node of our domain; `overload` names the optional inputs among `inputs`."""
    return ir.node(op, list(inputs), attributes, domain=DOMAIN, overload=overload, name=name)


def check_equal(what: str, proposed: Iterable[Array], actual: Iterable[Array]) -> None:
    """Raise Miss unless the proposed arrays equal the actual ones on every probe run."""
    for expected, array in zip(proposed, actual, strict=True):
        if expected.shape != array.shape:
            raise Miss(f"{what} would have the shape {expected.shape}, but the graph computes {array.shape}")
        error = float(np.abs(expected - array).max() / max(float(np.abs(array).max()), 1e-30))
        if not error <= TOLERANCE:
            raise Miss(f"{what} does not compute what the graph computes (relative error {error:.1e})")
