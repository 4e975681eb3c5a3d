"""LSTMs in INT8 against numpy: of texts of several lengths, in both directions, one to three layers.

Legend: B batch, S sequence, D directions, K inputs, H hidden.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from tests.calibrate.graphs import Graph, ops
from tests.numerics import relative_error
from trtbert.calibrate import Calibrated, calibrate, from_record, plan_lstms, to_record
from trtbert.calibrate.collect import Feeds, session
from trtbert.calibrate.qdq import scale_of

Array = npt.NDArray[Any]
Round = Callable[[Array], Array]
NUM_IDS, INPUTS, HIDDEN = 50, 12, 10
FEEDS: Feeds = {
    "input_ids": np.random.default_rng(5).integers(0, NUM_IDS, (6, 9), np.int32),
    "attention_mask": (np.arange(9) < np.array([[9], [1], [4], [7], [2], [9]])).astype(np.int32),
}


class Weights:
    """Of one layer; W has columns of very different sizes."""

    def __init__(self, num_inputs: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.w_DNK = rng.normal(size=(2, 4 * HIDDEN, num_inputs)).astype(np.float32) * rng.choice([0.05, 1.0], (2, 4 * HIDDEN, 1))
        self.r_DNH = rng.normal(size=(2, 4 * HIDDEN, HIDDEN)).astype(np.float32) / 3
        self.bias_DM = rng.normal(size=(2, 8 * HIDDEN)).astype(np.float32) / 3


def layers(num: int) -> list[Weights]:
    return [Weights(INPUTS if index == 0 else 2 * HIDDEN, index) for index in range(num)]


def lstm_model(weights: list[Weights], *, is_state_last: bool = False) -> ir.Model:
    """Rows of a table through the layers: all states [B,S,2H], or the last ones [B,2H]."""
    graph = Graph(np.random.default_rng(9).normal(size=(NUM_IDS, INPUTS)))
    lengths = graph.node("lengths", "ReduceSum", graph.inputs[1], graph.constant("axis", np.array([1])), keepdims=0)
    lengths.dtype = ir.DataType.INT32
    x, last = graph.x, graph.x
    for index, layer in enumerate(weights):
        constants = [graph.constant(f"{name}{index}", array) for name, array in vars(layer).items()]
        inputs = [graph.node(f"x{index}", "Transpose", x, perm=(1, 0, 2)), *constants, lengths]
        node = ir.node("LSTM", inputs, {"direction": "bidirectional", "hidden_size": HIDDEN}, num_outputs=3)
        graph.nodes.append(node)
        for output, name in zip(node.outputs, ("states", "last", "cells"), strict=True):
            output.name, output.dtype = f"{name}{index}", ir.DataType.FLOAT
        shape = graph.constant(f"shape{index}", np.array([0, 0, 2 * HIDDEN]))
        x = graph.node(f"y{index}", "Reshape", graph.node(f"swapped{index}", "Transpose", node.outputs[0], perm=(2, 0, 1, 3)), shape)
        last = node.outputs[1]
    if is_state_last:
        pairs = graph.node("pairs", "Transpose", last, perm=(1, 0, 2))
        y = graph.node("y", "Reshape", pairs, graph.constant("pair", np.array([0, 2 * HIDDEN])))
        y.shape = ir.Shape(["batch", 2 * HIDDEN])
        return graph.model(y)
    return graph.model(x)


def reference(weights: list[Weights], round_weight: Round = np.asarray, round_input: Round = np.asarray) -> tuple[Array, Array]:
    """In float64, the states [B,S,2H] and the last ones [B,2H]; `round_weight` rounds W and R [K,4H], `round_input` what they multiply."""
    x_BSK = np.random.default_rng(9).normal(size=(NUM_IDS, INPUTS)).astype(np.float32)[FEEDS["input_ids"]].astype(np.float64)
    lengths_B = FEEDS["attention_mask"].sum(1)
    for layer in weights:
        products_DBSN = [round_input(x_BSK) @ round_weight(layer.w_DNK[d].T.astype(np.float64)) for d in range(2)]
        states_BSDH, last_BDH = np.zeros((*x_BSK.shape[:2], 2, HIDDEN)), np.zeros((len(x_BSK), 2, HIDDEN))
        for d in range(2):
            h_BH = c_BH = np.zeros((len(x_BSK), HIDDEN))
            r_HN, bias_N = round_weight(layer.r_DNH[d].T.astype(np.float64)), layer.bias_DM[d].reshape(2, -1).sum(0)
            for step in range(x_BSK.shape[1]):
                is_kept_B = step < lengths_B
                places_B = np.where(is_kept_B, step if d == 0 else lengths_B - 1 - step, 0)
                gates = products_DBSN[d][np.arange(len(x_BSK)), places_B] + round_input(h_BH) @ r_HN + bias_N
                i, o, f, g = np.split(gates, 4, axis=1)
                c_new = sigmoid(f) * c_BH + sigmoid(i) * np.tanh(g)
                h_new = sigmoid(o) * np.tanh(c_new)
                c_BH, h_BH = (np.where(is_kept_B[:, None], new, old) for new, old in ((c_new, c_BH), (h_new, h_BH)))
                states_BSDH[is_kept_B, places_B[is_kept_B], d] = h_new[is_kept_B]
            last_BDH[:, d] = h_BH
        x_BSK = states_BSDH.reshape(*x_BSK.shape[:2], 2 * HIDDEN)
    return x_BSK, last_BDH.reshape(-1, 2 * HIDDEN)


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def int8_columns(weight_KN: Array) -> Array:
    scale_N = scale_of(np.abs(weight_KN).max(0)).astype(np.float64)
    return np.asarray(np.rint(weight_KN / scale_N) * scale_N)


def uint8(x: Array) -> Array:
    """256 steps from the least to the largest number, as ONNX's DynamicQuantizeLinear takes them."""
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    if low == high:
        return x
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    return np.asarray((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale)


def run(model: ir.Model) -> Array:
    return np.asarray(session(model).run(None, FEEDS)[0])


def calibrated(model: ir.Model, *, has_int8_embeddings: bool = False) -> Calibrated:
    options: dict[str, Any] = {"method": "entropy", "quantize": "linear", "smooth": None, "has_int8_embeddings": has_int8_embeddings}
    return calibrate(model, lambda: [FEEDS], [FEEDS], **options)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_states_of_every_layer(num_layers: int) -> None:
    weights = layers(num_layers)
    model = lstm_model(weights)
    found = calibrated(model)
    quantized = found.model()
    assert ops(quantized).count("DynamicQuantizeLSTM") == num_layers and "LSTM" not in ops(quantized)
    exact, _ = reference(weights)
    assert relative_error(run(model), exact) < 1e-5, "the reference itself"
    actual = run(quantized)
    assert 1e-4 < relative_error(actual, exact) < 0.05
    assert (actual[FEEDS["attention_mask"] == 0] == 0).all(), "what follows a text is no longer zero"


def test_weights_inputs_and_states_are_rounded_to_eight_bits() -> None:
    """One layer: further ones read numbers that may have been rounded the other way. Measured 0.003 against 0.027."""
    weights = layers(1)
    actual = run(calibrated(lstm_model(weights)).model())
    exact, rounded = reference(weights)[0], reference(weights, int8_columns, uint8)[0]
    assert relative_error(actual, rounded) < 0.2 * relative_error(actual, exact)


def test_the_last_states() -> None:
    weights = layers(2)
    quantized = calibrated(lstm_model(weights, is_state_last=True)).model()
    assert ops(quantized).count("DynamicQuantizeLSTM") == 2
    _, exact = reference(weights)
    assert 1e-4 < relative_error(run(quantized), exact) < 0.05


def test_each_direction_and_column_of_the_gates_has_its_scale() -> None:
    (layer,) = layers(1)
    graph = calibrated(lstm_model([layer])).model().graph
    (node,) = [node for node in graph if node.op_type == "DynamicQuantizeLSTM"]
    inputs = [None if value is None or value.const_value is None else value.const_value.numpy() for value in node.inputs]
    for weight_DNK, (data, scale, zero) in ((layer.w_DNK, (1, 8, 9)), (layer.r_DNH, (2, 10, 11))):
        data_DKN, scale_DN = inputs[data], inputs[scale]
        assert data_DKN is not None and data_DKN.dtype == np.int8 and scale_DN is not None and not np.any(inputs[zero])
        assert (np.abs(data_DKN.astype(int)).max(1) == 127).all()
        assert (np.abs(data_DKN * scale_DN[:, None] - weight_DNK.transpose(0, 2, 1)) <= 0.5001 * scale_DN[:, None]).all()


def test_layers_are_in_int8_one_by_one() -> None:
    model = lstm_model(layers(3))
    found = calibrated(model, has_int8_embeddings=True)
    assert [part.label for part in found.parts] == ["layer 0 LSTM", "layer 1 LSTM", "layer 2 LSTM", "word embedding"]
    assert (found.trial.method, found.trials, found.thresholds) == ("dynamic", (found.trial,), {})
    exact, errors = run(model), []
    for part in found.parts:
        one = found.model({part.key})
        assert ops(one).count("LSTM") == (3 if part.label == "word embedding" else 2)
        errors.append(relative_error(run(one), exact))
    assert all(1e-4 < error < 0.05 for error in errors) and len(set(errors)) == 4
    assert run(found.model(())).tolist() == exact.tolist()


def test_a_calibration_is_repeated_from_its_record() -> None:
    model = lstm_model(layers(2))
    found = calibrated(model, has_int8_embeddings=True)
    again = from_record(json.loads(json.dumps(to_record(found))), model)
    assert str(ir.to_proto(again.model())) == str(ir.to_proto(found.model()))


def test_what_stays_in_float() -> None:
    model = lstm_model(layers(1))
    assert len(plan_lstms(model.graph)) == 1
    (node,) = [node for node in model.graph if node.op_type == "LSTM"]
    weight = node.inputs[1]
    computed = ir.node("Identity", [weight], name="computed")
    model.graph.insert_before(node, computed)
    node.replace_input_with(1, computed.outputs[0])
    assert plan_lstms(model.graph) == [], "weights that are no constants"
    node.replace_input_with(1, weight)
    graph = Graph(np.ones((NUM_IDS, 4)))
    product = graph.node("product", "MatMul", graph.x, graph.constant("weight", np.eye(4)))
    total = graph.node("total", "Add", product, graph.x)
    weights = [graph.constant(name, array) for name, array in vars(Weights(4, 0)).items()]
    beside = ir.node("LSTM", [total, *weights], {"direction": "bidirectional", "hidden_size": HIDDEN})
    beside.outputs[0].name, beside.outputs[0].dtype = "y", ir.DataType.FLOAT
    graph.nodes.append(beside)
    assert plan_lstms(graph.model(beside.outputs[0]).graph) == [], "one beside the GEMMs of an encoder layer"
