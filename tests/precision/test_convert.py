"""A graph in half answers as the float32 graph does, also when its numbers leave the range of a half."""

import numpy as np
import onnx_ir as ir
import pytest

from tests.numerics import TOLERANCE, assert_close, relative_error
from tests.precision.encoder import batch, cosine, encoder, run, run_half
from tests.precision.lint import num_casts, problems
from trtbert.precision import convert

DTYPES = {"fp16": "float16", "bf16": "bfloat16"}


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph if node.op_type not in ("Cast", "Mul")]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_fused_encoder_needs_one_cast(precision: str) -> None:
    model, feed = encoder(), batch()
    before = str(ir.to_proto(model))
    converted = convert(model, precision, [feed])
    assert str(ir.to_proto(model)) == before
    assert ops(converted.model) == ops(model)
    assert num_casts(converted.model) == 1  # of the logits
    assert problems(converted.model) == []
    weights = [value.dtype for value in converted.model.graph.initializers.values() if value.dtype.is_floating_point()]
    assert set(weights) == {getattr(ir.DataType, DTYPES[precision].upper())}
    assert_close(run_half(converted.model, feed)[0], run(model, feed)[0], DTYPES[precision])


def test_fp16_runs_on_onnx_runtime_as_it_is() -> None:
    model, feed = encoder(), batch()
    assert_close(run(convert(model, "fp16", [feed]).model, feed)[0], run(model, feed)[0], "float16")


EXPLODING = {
    "ffn": {"up": 1e5},
    "ffn, undone": {"up": 1e6, "down": 1e-6},
    "ffn, by its bias": {"up_bias": 1e6},
    "after the ffn": {"up": 1e3, "down": 1e3},
    "q, undone by k": {"q": 1e5, "k": 1e-5},
    "k, undone by q": {"q": 1e-6, "k": 1e6},
    "v": {"v": 1e6},
    "v, undone": {"v": 1e6, "attention_out": 1e-6},
    "v and the layers": {"v": 1e5, "attention_out": 1e5, "up": 1e5, "down": 1e5},
    "LayerNorm": {"gamma": 1e6, "q": 1e-6, "k": 1e-6, "head": 1e-6},
    "all there is": {"up": 1e12},
}


@pytest.mark.parametrize("factors", EXPLODING.values(), ids=EXPLODING.keys())
def test_exploding_weights_stay_finite_and_close(factors: dict[str, float]) -> None:
    model, feed = encoder(**factors), batch()
    expected = run(model, feed)[0]
    naive = run_half(convert(model, "fp16", []).model, feed)[0]
    assert not np.isfinite(naive).all(), "the case does not overflow, so it shows nothing"
    converted = convert(model, "fp16", [batch(seed=1, size=3)])
    assert any("times 2^-" in note for note in converted.notes)
    assert problems(converted.model) == []
    assert ops(converted.model) == ops(model)
    actual = run_half(converted.model, feed)[0]
    assert np.isfinite(actual).all()
    assert cosine(actual, expected) >= 0.9999


HARMLESS = {
    "after the ffn": {"down": 1e7},
    "after the ffn, by the bias": {"bias": 1e6},
    "tiny down": {"down": 1e-7},
    "embeddings": {"word": 1e6, "position": 1e6},
    "tiny embeddings": {"word": 1e-6, "position": 1e-6},
    "tiny head": {"head": 1e-7},
}


@pytest.mark.parametrize("factors", HARMLESS.values(), ids=HARMLESS.keys())
def test_weights_beyond_either_end_of_the_range(factors: dict[str, float]) -> None:
    model, feed = encoder(**factors), batch()
    converted = convert(model, "fp16", [feed])
    assert problems(converted.model) == []
    actual, expected = run_half(converted.model, feed)[0], run(model, feed)[0]
    assert relative_error(actual, expected) <= TOLERANCE["float16"]


def test_huge_scores_stay_finite() -> None:
    model, feed = encoder(q=1e4, k=1e4), batch()  # the rounding of q and k decides which score wins: no cosine is promised
    assert not np.isfinite(run_half(convert(model, "fp16", []).model, feed)[0]).all()
    converted = convert(model, "fp16", [feed])
    assert any("attended to" in note for note in converted.notes)
    assert np.isfinite(run_half(converted.model, feed)[0]).all()


@pytest.mark.parametrize("factors", [{}, {"v": 1e6}, {"up": 1e6}], ids=str)
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_wholly_masked_rows_are_finite(precision: str, factors: dict[str, float]) -> None:
    model, feed = encoder(**factors), batch()
    converted = convert(model, precision, [feed])
    feed["attention_mask"][2:] = 0
    assert np.isfinite(run_half(converted.model, feed)[0]).all()


def test_weights_that_vanish_or_overflow_are_named() -> None:
    model = encoder(down=1e-7)
    down = next(value for name, value in model.graph.initializers.items() if name.startswith("up_bias"))
    down.const_value = ir.tensor(np.full(48, 1e-9, np.float32) + np.eye(1, 48, dtype=np.float32)[0], name=down.name)
    word = next(value for name, value in model.graph.initializers.items() if name.startswith("head"))
    word.const_value = ir.tensor(word.const_value.numpy() + np.float32(1e5), name=word.name)
    notes = convert(model, "fp16", [batch()]).notes
    assert f"{down.name}: 97.92% of the weights are too small for float16 and become 0, 0.00% become subnormal" in notes
    assert any(note.startswith(f"{word.name}: 96 of 96 values are beyond 65504, up to 1e+05") for note in notes)


def test_no_texts_are_named() -> None:
    assert "no text was given to scan" in convert(encoder(), "fp16", []).notes[0]
