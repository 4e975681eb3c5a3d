"""Look-ups of words, positions and types with their LayerNorm become one FusedEmbedLayerNorm."""

import onnx_ir as ir
import pytest

from tests.rewrite.graphs import edited, fuse, fused, parse, reasons
from trtbert.ops import FUSED_EMBED_LAYER_NORM

OP = FUSED_EMBED_LAYER_NORM.name
GRAPH = """
    word_BSD = Gather (word, input_ids)
    type_BSD = Gather (types, token_type_ids)
    typed = Add (word_BSD, type_BSD)
    length = Shape <start = 1, end = 2> (input_ids)
    position_ids = Slice (all_positions, zero, length, one)
    position_BSD = Gather (positions, position_ids)
    total = Add (typed, position_BSD)
    y = LayerNormalization <axis = -1, epsilon: float = 1e-12> (total, gamma, beta)
"""
OFFSET = edited(
    GRAPH,
    typed="""
    is_text = Not (is_padding)
    counted = Cast <to = 7> (is_text)
    sums = CumSum (counted, one_scalar)
    from_one = Mul (sums, counted)
    position_ids = Add (from_one, one_scalar)
    typed = Identity (word_BSD)
""",
    type_BSD="ids_64 = Cast <to = 7> (input_ids)\n is_padding = Equal (ids_64, padding)",
    length="",
    position_ids="",
)
"""As RoBERTa counts positions."""
WEIGHTS = {"word": (12, 8), "positions": (9, 8), "types": (2, 8), "gamma": (8,), "beta": (8,), "more": (12, 8), "w": (8, 8), "vector": (8,)}
CONSTANTS = {"all_positions": [list(range(9))], "zero": [0], "one": [1], "one_scalar": 1, "padding": 1}


def _parse(text: str) -> ir.Model:
    return parse(text, weights=WEIGHTS, constants=CONSTANTS)


def test_with_token_types() -> None:
    rewritten = fuse(_parse(GRAPH))
    assert rewritten.fusions[OP] == 1 and not rewritten.unfused
    node = fused(rewritten, OP)
    assert node.overload == "token_type" and node.attributes["epsilon"].as_float() == pytest.approx(1e-12, rel=1e-6)
    assert [v.name for v in node.inputs if v] == [
        "input_ids",
        "position_ids",
        "word",
        "positions",
        "gamma",
        "beta",
        "token_type_ids",
        "types",
    ]
    assert "Gather" not in [n.op_type for n in rewritten.model.graph]


def test_positions_counted_from_the_padding() -> None:
    rewritten = fuse(_parse(OFFSET))
    assert rewritten.fusions[OP] == 1 and not rewritten.unfused
    node = fused(rewritten, OP)
    assert node.overload == "" and [v.name for v in node.inputs if v] == ["input_ids", "position_ids", "word", "positions", "gamma", "beta"]


def test_a_type_that_every_token_has_goes_into_the_positions() -> None:
    text = edited(
        GRAPH,
        type_BSD="""shape = Shape (input_ids)
        none = ConstantOfShape (shape)
        whole = Cast <to = 7> (none)
        type_BSD = Gather (types, whole)""",
    )
    rewritten = fuse(_parse(text))
    assert rewritten.fusions[OP] == 1 and not rewritten.unfused
    node = fused(rewritten, OP)
    assert node.overload == "" and node.inputs[3] is not None and node.inputs[3].name == "positions+fixed"
    assert "Gather" not in [n.op_type for n in rewritten.model.graph]


NEAR_MISSES = {
    "an extra summand": (
        edited(GRAPH, total="extra = MatMul (word_BSD, w)\n most = Add (typed, position_BSD)\n total = Add (most, extra)"),
        "its summands are not one look-up each of words, positions and types: ['extra']",
    ),
    "a vector added": (
        edited(GRAPH, total="most = Add (typed, position_BSD)\n total = Add (most, vector)"),
        "its summands are not one look-up each of words, positions and types: ['vector']",
    ),
    "words looked up twice": (
        edited(GRAPH, total="again = Gather (more, input_ids)\n most = Add (typed, position_BSD)\n total = Add (most, again)"),
        "its summands are not one look-up each of words, positions and types: ['word_BSD', 'type_BSD', 'position_BSD', 'again']",
    ),
    "no positions": (edited(GRAPH, total="total = Identity (typed)"), "it has 0 look-ups of positions and 1 of token types"),
    "positions times two": (
        edited(GRAPH, total="twice = Add (position_BSD, position_BSD)\n total = Add (typed, twice)"),
        "it has 2 look-ups of positions and 1 of token types",
    ),
    "no beta": (
        edited(GRAPH, y="y = LayerNormalization <axis = -1> (total, gamma)"),
        "its summands are not one look-up each of words, positions and types",
    ),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_miss(name: str) -> None:
    text, reason = NEAR_MISSES[name]
    (found,) = reasons(fuse(_parse(text)), OP)
    assert reason in found
