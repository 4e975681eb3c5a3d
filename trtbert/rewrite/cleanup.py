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
    ir.passes.Sequential(
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
    )(model)


def finish(model: ir.Model) -> None:
    """Remove what the fusions left unread and merge what is computed twice, in place."""
    ir.passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
    )(model)
