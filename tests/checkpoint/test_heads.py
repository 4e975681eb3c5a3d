"""Each step of a head: the ONNX ops against values worked out by hand, and against its own numpy form."""

import numpy as np
import onnx_ir as ir
import pytest

from tests.export.running import run_graph
from tests.numerics import assert_close
from trtbert.checkpoint.heads import DENSE_ACTIVATIONS, HEAD_PREFIX, Activation, Dense, Normalize, Pooling, Step, append_head, run_head

X_BSD = np.arange(24, dtype=np.float32).reshape(2, 4, 3) - 7.5
MASKS = {"right": [[1, 1, 1, 1], [1, 1, 0, 0]], "left": [[0, 1, 1, 1], [0, 0, 0, 1]], "nothing": [[0, 0, 0, 0], [1, 1, 1, 1]]}
EXPECTED = {
    "cls": X_BSD[1, 0],
    "max": X_BSD[1, 1],
    "mean": (X_BSD[1, 0] + X_BSD[1, 1]) / 2,
    "mean_sqrt_len": (X_BSD[1, 0] + X_BSD[1, 1]) / np.sqrt(2),
    "weightedmean": (X_BSD[1, 0] + 2 * X_BSD[1, 1]) / 3,
    "lasttoken": X_BSD[1, 1],
}
"""Of the second row of MASKS["right"]."""


def _run(head: tuple[Step, ...], x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    names = {"attention_mask": ir.DataType.INT32, "x": ir.DataType.FLOAT}
    rank = {"attention_mask": 2, "x": x.ndim}
    inputs = [ir.Value(name=n, shape=ir.Shape([None] * rank[n]), type=ir.TensorType(t)) for n, t in names.items()]
    node = ir.node("Identity", [inputs[1]])
    graph = ir.Graph(inputs, [node.outputs[0]], nodes=[node], opset_imports={"": 23}, name="head")
    model = ir.Model(graph, ir_version=10)
    append_head(model, head, output="y")
    graph.outputs[0].type, graph.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([None] * (x.ndim if rank["x"] == 2 else 2))
    assert all((n.name or "").startswith(HEAD_PREFIX) for n in graph if n is not node)
    return run_graph(model, {"attention_mask": mask, "x": x})["y"]


@pytest.mark.parametrize("mode", EXPECTED)
@pytest.mark.parametrize("padding", MASKS)
def test_pooling(mode: str, padding: str) -> None:
    mask = np.array(MASKS[padding], np.int32)
    head = (Pooling((mode,)),)  # type: ignore[arg-type]
    actual = _run(head, X_BSD, mask)
    assert actual.shape == (2, 3)
    assert_close(actual, run_head(head, X_BSD, mask))
    if padding == "right":
        assert_close(actual[1], EXPECTED[mode])
    if padding == "left":
        assert_close(actual[1], X_BSD[1, 3])
    if padding == "nothing" and mode != "cls":
        assert not actual[0].any()


def test_several_poolings_are_concatenated_and_normalised() -> None:
    mask = np.array(MASKS["right"], np.int32)
    head = (Pooling(("cls", "mean")), Normalize())
    actual = _run(head, X_BSD, mask)
    assert actual.shape == (2, 6)
    expected = np.concatenate([EXPECTED["cls"], EXPECTED["mean"]])
    assert_close(actual[1], expected / np.linalg.norm(expected))
    assert_close(actual, run_head(head, X_BSD, mask))


def test_normalise_of_zero_is_zero() -> None:
    mask = np.zeros((2, 4), np.int32)
    actual = _run((Pooling(("mean",)), Normalize()), X_BSD, mask)
    assert np.isfinite(actual).all() and not actual.any()


@pytest.mark.parametrize("activation", DENSE_ACTIVATIONS)
@pytest.mark.parametrize("has_bias", [True, False])
def test_dense(activation: str, has_bias: bool) -> None:
    generator = np.random.default_rng(0)
    weight, bias = generator.normal(size=(3, 5)).astype(np.float32), generator.normal(size=5).astype(np.float32)
    dense = Dense(weight, bias if has_bias else None, activation)
    x, mask = X_BSD[:, 0], np.ones((2, 4), np.int32)
    actual = _run((dense,), x, mask)
    assert actual.shape == (2, 5) and dense.output_size(3) == 5
    if activation == "Identity":
        assert_close(actual, x @ weight + (bias if has_bias else 0))
    assert_close(actual, run_head((dense,), x, mask))


def test_activations() -> None:
    x, mask = np.array([[0.0, np.log(3)], [1000, 1000]], np.float32), np.ones((2, 4), np.int32)
    assert_close(_run((Activation("softmax"),), x, mask), np.array([[0.25, 0.75], [0.5, 0.5]]))
    assert_close(_run((Activation("sigmoid"),), x, mask), np.array([[0.5, 0.75], [1, 1]]))
    for kind in ("softmax", "sigmoid"):
        assert_close(run_head((Activation(kind),), x, mask), _run((Activation(kind),), x, mask))  # type: ignore[arg-type]
