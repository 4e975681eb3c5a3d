"""Which GEMMs of a model may be INT8: those of its encoder layers, each with its part; never those of a head."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from tests.calibrate.conftest import FAMILIES, FILE_OF
from tests.calibrate.graphs import Graph
from tests.fixtures.make_foreign import FOREIGN
from tests.rewrite.foreign import Facts, import_and_rewrite
from trtbert.calibrate.gemms import Gemm, find_gemms

FACTS: dict[str, Facts] = json.loads((FOREIGN / "files.json").read_text())
Family = Callable[[str], ir.Model]
PARTS = ("qkv", "attention output", "ffn up", "ffn down")
WITH_PROJECTION = ("albert", "electra")
NUM_OF_HEAD = {"albert": 2, "bert": 2, "deberta-v2": 1, "distilbert": 1, "electra": 0, "modernbert": 2, "mpnet": 0, "roberta": 1}
"""GEMMs of the head that the family has in conftest: dense and decoder, pooler and classifier..."""


def imported(name: str, folder: Path) -> ir.Model:
    return import_and_rewrite(FOREIGN / name, FACTS[name], folder).rewritten.model


def num_gemms(graph: ir.Graph) -> int:
    """All products with a constant weight."""
    return sum(node.op_type in ("MatMul", "Gemm") and _is_weight(node.inputs[1]) for node in graph)


def _is_weight(value: ir.Value | None) -> bool:
    """A constant, also one that is transposed on the way (the table of a fill-mask decoder)."""
    node = None if value is None else value.producer()
    value = node.inputs[0] if node is not None and node.op_type == "Transpose" else value
    return value is not None and value.const_value is not None and len(value.const_value.shape) == 2


def shapes(gemms: list[Gemm]) -> list[tuple[int, ...]]:
    return [tuple(gemm.weight.const_value.shape.numpy()) for gemm in gemms if gemm.weight.const_value is not None]


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "deberta-v2"])
def test_four_in_each_layer_and_the_projection_of_embeddings(family: Family, name: str) -> None:
    gemms = find_gemms(family(name).graph)
    layers = [f"layer {layer} {part}" for layer in range(2) for part in PARTS]
    assert [gemm.label for gemm in gemms] == ["embeddings projection"] * (name in WITH_PROJECTION) + layers
    hidden, width = (16, 20) if name in FILE_OF else (48, 80)
    up = 2 * width if name == "modernbert" else width  # a gated FFN
    layer = [(hidden, 3 * hidden), (hidden, hidden), (hidden, up), (width, hidden)]
    assert shapes(gemms)[-8:] == layer * 2
    assert [shape[1] for shape in shapes(gemms)[:-8]] == [hidden] * (name in WITH_PROJECTION)


def test_deberta_has_q_k_and_v_apart_and_not_those_of_its_position_table(family: Family) -> None:
    gemms = find_gemms(family("deberta-v2").graph)
    counts = Counter(gemm.label for gemm in gemms)
    assert counts == {f"layer {layer} {part}": 3 if part == "qkv" else 1 for layer in range(2) for part in PARTS}
    assert not [gemm for gemm in gemms if gemm.x.shape is not None and gemm.x.shape[0] == 1]


@pytest.mark.parametrize("name", FAMILIES)
def test_no_head_is_among_them(family: Family, name: str) -> None:
    graph = family(name).graph
    num_of_position_tables = 4 if name == "deberta-v2" else 0
    assert num_gemms(graph) - len(find_gemms(graph)) == NUM_OF_HEAD[name] + num_of_position_tables
    named = [str(gemm.weight.name) for gemm in find_gemms(graph)]
    assert not [name for name in named if any(word in name for word in ("pooler", "classifier", "cls.", "decoder", "outputs", "head."))]


@pytest.mark.parametrize(
    "name,num_of_head",
    [
        ("bert-text-classification-gelu_new-eager-opset14.onnx", 2),
        ("bert-eager-opset11.onnx", 0),
    ],
)
def test_no_head_of_a_foreign_file_is_among_them(tmp_path: Path, name: str, num_of_head: int) -> None:
    graph = imported(name, tmp_path).graph
    assert [gemm.label for gemm in find_gemms(graph)] == [f"layer {layer} {part}" for layer in range(2) for part in PARTS]
    assert num_gemms(graph) == 8 + num_of_head


@pytest.mark.parametrize("name", ["bert-pruned-eager-opset12.onnx", "distilbert-pruned-sdpa-opset14.onnx"])
def test_layers_of_unequal_width(tmp_path: Path, name: str) -> None:
    facts = FACTS[name]
    gemms = find_gemms(imported(name, tmp_path).graph)
    assert [gemm.label for gemm in gemms] == [f"layer {layer} {part}" for layer in range(2) for part in PARTS]
    hidden, expected = facts["hidden_size"], []
    for num_heads, width in zip(facts["num_heads"], facts["intermediate_sizes"], strict=True):
        context = num_heads * facts["head_size"]
        expected += [(hidden, 3 * context), (context, hidden), (hidden, width), (width, hidden)]
    assert len(set(expected)) > 4, "the layers do not differ"
    assert shapes(gemms) == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_the_preset_ffn_takes_the_two_of_the_ffn(family: Family, name: str) -> None:
    graph = family(name).graph
    ffn = [gemm.label for gemm in find_gemms(graph, "ffn")]
    assert ffn == [f"layer {layer} {part}" for layer in range(2) for part in ("ffn up", "ffn down")]
    assert [gemm.key for gemm in find_gemms(graph, "full")] == [gemm.key for gemm in find_gemms(graph, "linear")]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_key_names_one_gemm_in_every_copy_of_the_graph(family: Family, name: str) -> None:
    graph = family(name).graph
    keys = [gemm.key for gemm in find_gemms(graph)]
    assert len(set(keys)) == len(keys) > 0
    assert [gemm.key for gemm in find_gemms(family(name).clone().graph)] == keys


def test_a_sum_of_integers_or_with_a_constant_is_no_residual() -> None:
    graph = Graph(np.ones((4, 8)))
    product = graph.node("product", "MatMul", graph.x, graph.constant("weight", np.ones((8, 8))))
    positions = graph.node("positions", "Add", graph.inputs[0], graph.inputs[1])
    positions.dtype = ir.DataType.INT32
    biased = graph.node("biased", "Add", product, graph.constant("bias", np.ones(8)))
    assert find_gemms(graph.model(biased, positions).graph) == []


def test_a_product_with_a_computed_or_a_wider_weight_is_no_gemm() -> None:
    graph = Graph(np.ones((4, 8)))
    a = graph.node("a", "MatMul", graph.x, graph.constant("weight", np.ones((1, 8, 8))))
    b = graph.node("b", "MatMul", graph.x, graph.node("transposed", "Transpose", graph.x, perm=[0, 2, 1]))
    model = graph.model(graph.node("y", "Add", a, graph.x), b)
    assert find_gemms(model.graph) == []
