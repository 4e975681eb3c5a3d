"""Averages over the tokens of a row stay finite where the row has none."""

from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from tests.export.running import run_graph
from tests.models import make_checkpoint
from tests.numerics import assert_close
from trtbert.config import CompileConfig
from trtbert.export import load_source
from trtbert.export.mask_count import clamp_mask_counts

GRAPH = """
<ir_version: 10, opset_import: ["" : 23]>
pooling (int32[b, s] attention_mask, float[b, s, 4] x) => (float[b, 4] y)
{
  one = Constant <value_ints = [1]> ()
  last = Constant <value_ints = [-1]> ()
  mask = Cast <to = 1> (attention_mask)
  mask3 = Unsqueeze (mask, last)
  kept = Mul (x, mask3)
  total = ReduceSum <keepdims = 0> (kept, one)
  COUNT
  y = Div (total, count)
}
"""
COUNTS = {
    "integers": "long = Cast <to = 7> (attention_mask)\n  n = ReduceSum (long, one)\n  count = Cast <to = 1> (n)",
    "spread": "size = Shape (x)\n  wide = Expand (mask3, size)\n  count = ReduceSum <keepdims = 0> (wide, one)",
}
OTHERS = {
    "clamped already": "least = Constant <value_float = 0.5> ()\n  n = ReduceSum (mask, one)\n  count = Max (n, least)",
    "not of the mask": "count = ReduceSum <keepdims = 0> (x, one)",
}
MASK = np.array([[1, 1, 0], [0, 0, 0]], np.int32)
X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)


def _model(count: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(GRAPH.replace("COUNT", count)))


@pytest.mark.parametrize("name", COUNTS)
def test_a_row_without_tokens(name: str) -> None:
    model = _model(COUNTS[name])
    assert clamp_mask_counts(model) == 1
    assert [node.op_type for node in model.graph].count("Max") == 1
    pooled = run_graph(model, {"attention_mask": MASK, "x": X})["y"]
    assert_close(pooled, np.stack([X[0, :2].mean(0), np.zeros(4, np.float32)]))


@pytest.mark.parametrize("name", OTHERS)
def test_other_divisions_stay(name: str) -> None:
    model = _model(OTHERS[name])
    num_nodes = len(model.graph)
    assert clamp_mask_counts(model) == 0
    assert len(model.graph) == num_nodes


def test_modernbert_with_mean_pooling(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, "modernbert", task="text-classification", classifier_pooling="mean", num_hidden_layers=1)
    source = load_source(folder, CompileConfig(), tmp_path / "out")
    feeds = {"input_ids": np.full((2, 3), 7, np.int32), "attention_mask": MASK}
    scores, expected = run_graph(source.model, feeds)["scores"], source.reference(feeds)["scores"]
    assert np.isfinite(scores).all() and not np.isfinite(expected[1]).any()
    assert_close(scores[:1], expected[:1])
