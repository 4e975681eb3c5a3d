"""Small graphs as ONNX text, with random weights: B batch, S sequence, 8 wide, 2 heads of 4, 12 words, 9 positions."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir

from tests.export.running import run_graph
from tests.numerics import assert_close
from trtbert.ops import DOMAIN, FUSED_OPS
from trtbert.rewrite import Rewritten, rewrite

Shapes = Mapping[str, tuple[int, ...]]
Constants = Mapping[str, npt.ArrayLike]

FEEDS = {
    "input_ids": np.arange(3, 15, dtype=np.int32).reshape(2, 6) % 12,
    "attention_mask": np.array([[1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 1, 0]], np.int32),
    "token_type_ids": np.array([[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 0, 0]], np.int32),
}
"""Not the arrays of the probe: other shapes, other ids, other masks."""


def edited(text: str, **lines: str) -> str:
    """`text` with the line that computes each of the named values replaced."""
    result = text.splitlines()
    for name, line in lines.items():
        places = [i for i, old in enumerate(result) if old.strip().startswith(f"{name} =")]
        assert len(places) == 1, f"{name} is computed in {len(places)} lines"
        result[places[0]] = line
    return "\n".join(result)


def parse(body: str, *, weights: Shapes, constants: Constants, outputs: tuple[str, ...] = ("y",)) -> ir.Model:
    """The model of `body`; weights are drawn N(0, 0.5), constants are given (floats as float32, integers as int64)."""
    names = [name for name in FEEDS if name in body]
    inputs = ", ".join(f"int32[batch, sequence] {name}" for name in names)
    results = ", ".join(f"float[batch, sequence, width] {name}" for name in outputs)
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 23]> graph ({inputs}) => ({results}) {{\n{body}\n}}')
    generator = np.random.default_rng(0)
    arrays = {name: np.asarray(0.5 * generator.standard_normal(shape), np.float32) for name, shape in weights.items()}
    for name, value in constants.items():
        array = np.asarray(value)
        arrays[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used)
    for node in proto.graph.node:
        node.name = node.output[0]
    return ir.serde.deserialize_model(proto)


def fuse(model: ir.Model) -> Rewritten:
    """Rewrite it as what no architecture is known of, and check that it still computes what it did; `model` stays as it was."""
    rewritten = rewrite(model, architecture="unknown", num_layers=None, allow_unfused=True)
    assert {op: count for op, count in rewritten.fusions.items() if count} == dict(num_fused(rewritten.model))
    feeds = {str(value.name): FEEDS[str(value.name)] for value in model.graph.inputs}
    expected, actual = run_graph(model, feeds), run_graph(rewritten.model, feeds)
    for name, array in expected.items():
        assert_close(actual[name], array)
    return rewritten


def num_fused(model: ir.Model) -> Counter[str]:
    assert {key[1] for key in model.functions} == {n.op_type for n in model.graph if n.domain == DOMAIN} <= set(FUSED_OPS)
    return Counter(node.op_type for node in model.graph if node.domain == DOMAIN)


def fused(rewritten: Rewritten, op: str) -> ir.Node:
    """The one fused node of `op`."""
    (node,) = [node for node in rewritten.model.graph if node.op_type == op and node.domain == DOMAIN]
    return node


def reasons(rewritten: Rewritten, op: str) -> list[str]:
    assert rewritten.fusions[op] == 0, f"{op} fired"
    return [miss.reason for miss in rewritten.unfused if miss.rule == op]
