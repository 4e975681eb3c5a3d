"""Fold constants, drop what nobody reads, and name and shape every value, without changing a number."""

import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes import common

_NO_LIMIT = 1 << 40


def fold(model: ir.Model) -> None:
    """Fold constants and remove Identity, Dropout and dead nodes, in place.

    onnxscript's other optimisations are left out: they take an epsilon of 1e-12 for zero and remove it.
    """
    onnxscript.optimizer.fold_constants(model, onnx_shape_inference=True, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _remove_identities(model.graph)
    ir.passes.Sequential(common.RemoveUnusedNodesPass(), common.TopologicalSortPass())(model)


def _remove_identities(graph: ir.Graph) -> None:
    """Only in the main graph: the branch of an If must not give a value that it does not compute itself."""
    for node in [n for n in graph if n.op_type == "Identity" and n.domain == ""]:
        (old,), (new,) = node.outputs, node.inputs
        if new is None or old.is_graph_output():
            continue
        new.shape, new.type = new.shape or old.shape, new.type or old.type
        ir.convenience.replace_all_uses_with(old, new)
        graph.remove(node, safe=True)


def finish(model: ir.Model) -> None:
    """Remove what the fusions left unread and merge what is computed twice, in place."""
    ir.passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
    )(model)
