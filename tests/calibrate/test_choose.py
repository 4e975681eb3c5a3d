"""What the user leaves open is chosen by the error on the held-back texts; parts can be in INT8 or in float one by one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tests.builders.fused import Encoder, feeds, fused_encoder
from tests.calibrate.graphs import Graph, all_rows, gemm_model, ops
from trtbert.calibrate import Calibrated, Trial, calibrate
from trtbert.calibrate.collect import Feeds, session
from trtbert.calibrate.gemms import find_gemms
from trtbert.calibrate.thresholds import METHODS
from trtbert.calibrate.trials import Judge
from trtbert.errors import UnsupportedError

BATCHES = [feeds(3, 17, seed) for seed in range(8)]
LESS_CLIPPING_FIRST = ("minmax", "percentile", "mse", "entropy")


def calibrated(model: ir.Model, batches: list[Feeds] | None = None, **options: Any) -> Calibrated:
    every = BATCHES if batches is None else batches
    chosen: dict[str, Any] = {"method": "minmax", "quantize": "linear", "smooth": False, "has_int8_embeddings": False} | options
    return calibrate(model, lambda: every[2:] or every, every[:2], **chosen)


def run(model: ir.Model, each: Feeds) -> np.ndarray:
    return np.asarray(session(model).run(None, each)[0])


def assert_chosen_by_error(found: Calibrated) -> None:
    """From the first on, each takes the place of the one before only with less than 95 % of its error."""
    expected = found.trials[0]
    for trial in found.trials:
        expected = trial if trial.error < 0.95 * expected.error else expected
    assert found.trial == expected


def test_auto_measures_every_method_plain_and_smoothed_and_takes_the_best() -> None:
    model = fused_encoder(Encoder())
    found = calibrated(model, method="auto", smooth=None)
    tried = [(trial.is_smoothed, trial.method) for trial in found.trials]
    assert tried == [(is_smoothed, method) for is_smoothed in (False, True) for method in LESS_CLIPPING_FIRST]
    assert len({trial.error for trial in found.trials}) > 4, "the methods do not differ"
    assert_chosen_by_error(found)
    assert found.trial.error <= min(trial.error for trial in found.trials) / 0.95
    error = Judge(model, BATCHES[:2]).error(found.model())
    assert found.trial.error == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize("smooth,smoothed", [(False, [False]), (True, [True]), (None, [False, True])])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_given_is_taken(method: str, smooth: bool | None, smoothed: list[bool]) -> None:
    found = calibrated(fused_encoder(Encoder(heads=(2,), widths=(33,))), method=method, smooth=smooth)
    assert [(trial.method, trial.is_smoothed) for trial in found.trials] == [(method, is_smoothed) for is_smoothed in smoothed]
    assert_chosen_by_error(found)


def clipping(outlier: float, weight: float) -> ir.Model:
    """One row in 500 of x has an `outlier` in column 0, which the GEMM reads times `weight`."""
    rng = np.random.default_rng(0)
    x_VK = rng.laplace(size=(1000, 16))
    x_VK[::500, 0] = outlier
    weight_KN = rng.normal(size=(16, 16))
    weight_KN[0] *= weight
    return gemm_model(x_VK, weight_KN)


def held_back(num_rows: int) -> list[Feeds]:
    every = all_rows(num_rows, 4)
    return [{name: array[i : i + 1] for name, array in every.items()} for i in range(4)]


def test_outliers_that_carry_nothing_are_clipped() -> None:
    found = calibrated(clipping(400.0, 1e-4), held_back(1000), method="auto")
    assert found.trial.method != "minmax"
    assert found.trial.error < 0.5 * found.trials[0].error
    assert found.parts[0].threshold < 100.0 < found.maxima["product"]  # type: ignore[attr-defined]


def test_where_methods_differ_by_less_than_5_percent_the_one_that_clips_least_is_taken() -> None:
    rng = np.random.default_rng(1)
    found = calibrated(gemm_model(rng.normal(size=(1000, 16)), rng.normal(size=(16, 16))), held_back(1000), method="auto")
    errors = [trial.error for trial in found.trials]
    assert max(errors) < min(errors) / 0.95
    assert errors.index(min(errors)) > 0, "the first is the best anyhow"
    assert found.trial == Trial(method="minmax", is_smoothed=False, error=errors[0])


def test_a_smoothed_model_needs_a_second_pass_over_the_texts() -> None:
    told: list[int] = []
    for smooth, num_passes in ((False, 1), (True, 2), (None, 2)):
        told.clear()
        calibrated(fused_encoder(Encoder(heads=(1,), widths=(17,))), smooth=smooth, on_progress=told.append)
        assert told == [3] * 6 * num_passes


def test_a_model_with_no_gemm_is_refused() -> None:
    graph = Graph(np.ones((9, 8)))
    with pytest.raises(UnsupportedError, match=r"No matrix product of an encoder layer was found.*--precision fp16 or fp32"):
        calibrated(graph.model(graph.node("y", "Relu", graph.x)), [all_rows(9)])


def test_parts_are_in_int8_one_by_one() -> None:
    model = fused_encoder(Encoder())
    found = calibrated(model, has_int8_embeddings=True)
    keys = [part.key for part in found.parts]
    assert len(set(keys)) == len(keys) == 9
    each = BATCHES[0]
    exact, answers = run(model, each), []
    for key in keys:
        one = found.model({key})
        is_table = found.parts[keys.index(key)].label == "word embedding"
        assert ops(one).count("QuantizeLinear") == (not is_table)
        assert ops(one).count("DequantizeLinear") == (1 if is_table else 2)
        answers.append(run(one, each))
        assert 0 < np.abs(answers[-1] - exact).max() < 0.2 * np.abs(exact).max()
    assert run(found.model(()), each).tolist() == exact.tolist()
    assert run(found.model(keys), each).tolist() == run(found.model(), each).tolist()
    assert ops(found.model()).count("QuantizeLinear") == 8


def test_the_model_that_is_given_stays_as_it_was() -> None:
    model = fused_encoder(Encoder())
    before = str(ir.to_proto(model))
    found = calibrated(model, method="auto", smooth=None, quantize="full", has_int8_embeddings=True)
    first = str(ir.to_proto(found.model()))
    assert str(ir.to_proto(model)) == before
    assert str(ir.to_proto(found.model())) == first, "the base has changed"


def test_labels_and_maxima_of_each_gemm() -> None:
    model = fused_encoder(Encoder())
    found = calibrated(model)
    gemms = find_gemms(model.graph)
    assert [(part.key, part.label) for part in found.parts] == [(gemm.key, gemm.label) for gemm in gemms]
    assert list(found.maxima) == [gemm.key for gemm in gemms]
    for part in found.parts:
        assert part.threshold == found.maxima[part.key]  # type: ignore[attr-defined]


TABLES = {"albert": "FusedEmbedLayerNorm", "deberta-v2": "Gather", "modernbert": "Gather", "bert": "FusedEmbedLayerNorm"}


@pytest.mark.parametrize("name", TABLES)
def test_the_rows_of_the_word_embedding_are_within_half_a_step(family: Callable[[str], ir.Model], name: str) -> None:
    model = family(name)
    each = {str(value.name): np.full((2, 7), 9 if value.name == "input_ids" else 1, np.int32) for value in model.graph.inputs}
    found = calibrated(model, [each], has_int8_embeddings=True)
    (part,) = [part for part in found.parts if part.label == "word embedding"]
    graph = found.model({part.key}).graph
    (dequantize,) = [node for node in graph if node.op_type == "DequantizeLinear"]
    (reader,) = dequantize.outputs[0].consumers()
    assert reader.op_type == TABLES[name] and dequantize.attributes["axis"].as_int() == 0
    rows_VD, scale_V = (np.asarray(value.const_value.numpy()) for value in dequantize.inputs[:2])  # type: ignore[union-attr]
    before = next(node for node in model.graph if node.outputs[0].name == reader.outputs[0].name)
    table = before.inputs[reader.inputs.index(dequantize.outputs[0])]
    assert table is not None and table.const_value is not None
    table_VD = table.const_value.numpy()
    assert rows_VD.dtype == np.int8 and scale_V.shape == (len(table_VD),)
    assert np.abs(rows_VD).max(1).tolist() == [127] * len(table_VD)
    assert (np.abs(rows_VD * scale_V[:, None] - table_VD).max(1) <= 0.5001 * scale_V).all()
    assert "word embedding" not in [part.label for part in calibrated(model, [each]).parts]


def test_a_decoder_that_shares_the_table_keeps_the_float_one(family: Callable[[str], ir.Model]) -> None:
    model = family("albert")
    each = {str(value.name): np.full((2, 7), 1, np.int32) for value in model.graph.inputs}
    found = calibrated(model, [each], has_int8_embeddings=True)
    assert find_gemms(found.model(()).graph) and len(found.parts) == 10
    num_gemms = sum(node.op_type in ("MatMul", "Gemm") for node in model.graph)
    quantized = found.model().graph
    num_int8 = sum(
        node.op_type == "MatMul"
        and node.inputs[1] is not None
        and (made := node.inputs[1].producer()) is not None
        and made.op_type == "DequantizeLinear"
        for node in quantized
    )
    assert num_gemms - num_int8 == 2  # dense and decoder of the head
