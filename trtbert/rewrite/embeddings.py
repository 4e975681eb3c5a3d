"""Word, position and token-type look-ups, their sum and its LayerNorm -> one FusedEmbedLayerNorm."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from trtbert.ops import FUSED_EMBED_LAYER_NORM, Array, fused_embed_layer_norm
from trtbert.rewrite.layer_norm import epsilon_of
from trtbert.rewrite.probe import Probe
from trtbert.rewrite.rule import Fusion, Rule, check_equal, fused_node
from trtbert.rewrite.walk import Miss, array_of, initializer, is_constant, producer, skip_back
from trtbert.tasks import INPUT_IDS, TOKEN_TYPE_IDS


@dataclass(frozen=True)
class _Lookup:
    """Rows of a constant table."""

    table: ir.Value
    ids: ir.Value


def _summands(value: ir.Value) -> list[ir.Value]:
    add = producer(skip_back(value), {"Add"})
    if add is None:
        return [skip_back(value)]
    return [leaf for operand in add.inputs if operand is not None for leaf in _summands(operand)]


def _lookup(value: ir.Value) -> _Lookup | None:
    gather = producer(value, {"Gather"})
    if gather is None or gather.attributes.get_int("axis", 0) != 0:
        return None
    table, ids = gather.inputs
    return _Lookup(table, skip_back(ids)) if table is not None and ids is not None and is_constant(table) else None


def _fixed_row(lookup: _Lookup, probe: Probe) -> int | None:
    """The one row that is looked up whatever the input, None if it varies."""
    rows = {int(row) for array in probe[lookup.ids] for row in np.unique(array)}
    return rows.pop() if len(rows) == 1 and not lookup.ids.is_graph_input() else None


def find_embeddings(anchor: ir.Node, probe: Probe) -> Fusion | None:
    """LayerNormalization(word[input_ids] + position[position_ids] (+ token_type[token_type_ids]))."""
    if anchor.inputs[0] is None:
        return None
    summands = _summands(anchor.inputs[0])
    lookups = [lookup for value in summands if (lookup := _lookup(value)) is not None]
    words = [lookup for lookup in lookups if lookup.ids.name == INPUT_IDS and lookup.ids.is_graph_input()]
    if not words:
        return None  # another LayerNorm
    if len(lookups) != len(summands) or len(words) > 1 or len(anchor.inputs) < 3:
        others = [str(value.name) for value in summands if _lookup(value) is None]
        raise Miss(f"its summands are not one look-up each of words, positions and types: {others or [str(v.name) for v in summands]}")
    types = [lookup for lookup in lookups if lookup.ids.name == TOKEN_TYPE_IDS and lookup.ids.is_graph_input()]
    fixed = {lookup: row for lookup in lookups if lookup not in types and (row := _fixed_row(lookup, probe)) is not None}
    positions = [lookup for lookup in lookups if lookup not in (*words, *types, *fixed)]
    if len(positions) != 1 or len(types) > 1:
        found = f"{len(positions)} look-ups of positions and {len(types)} of token types"
        raise Miss(f"it has {found}; one position is needed, and at most one type")
    return _fuse(anchor, words[0], positions[0], types[0] if types else None, fixed, probe)


def _fuse(anchor: ir.Node, word: _Lookup, position: _Lookup, token_type: _Lookup | None, fixed: dict[_Lookup, int], probe: Probe) -> Fusion:
    graph = anchor.graph
    gamma, beta = anchor.inputs[1:3]
    assert graph is not None and gamma is not None and beta is not None
    position_table = _with_fixed_rows(graph, position.table, fixed)
    inputs = [word.ids, position.ids, word.table, position_table, gamma, beta]
    if token_type is not None:
        inputs += [token_type.ids, token_type.table]
    epsilon = epsilon_of(anchor)
    runs = zip(*(probe[value] for value in inputs), strict=True)
    check_equal("a FusedEmbedLayerNorm", [fused_embed_layer_norm(*arrays, epsilon=epsilon) for arrays in runs], probe[anchor.outputs[0]])
    overload = "" if token_type is None else "token_type"
    node = fused_node(FUSED_EMBED_LAYER_NORM.name, inputs, {"epsilon": epsilon}, overload=overload, name=f"{anchor.name}.fused")
    return Fusion(anchor.outputs[0], (node,))


def _with_fixed_rows(graph: ir.Graph, table: ir.Value, fixed: dict[_Lookup, int]) -> ir.Value:
    """The position table with the rows that every token gets added to it (a model with a single token type)."""
    if not fixed:
        return table
    total: Array = array_of(table) + sum(array_of(lookup.table)[row] for lookup, row in fixed.items())
    tensor = ir.tensor(total, name=f"{table.name}+fixed")
    value = initializer(tensor)
    graph.register_initializer(value)
    return value


rule = Rule(op=FUSED_EMBED_LAYER_NORM.name, anchors=frozenset({"LayerNormalization"}), find=find_embeddings)
