"""FusedEmbedLayerNorm, executed: types x widths x tokens, ids in and outside the tables, and what it refuses."""

import itertools
from typing import Any

import numpy as np
import pytest

from tests.plugins.cases.embed_layer_norm import POSITIONS, WORDS, Y_SCALE, EmbedCase, check, inputs
from tests.plugins.kernels import FLOAT_TYPES, KernelError, Kernels

WIDTHS = (1, 31, 32, 33, 128, 384, 768, 1023, 1024, 4096, 5000)
SHAPES = ((0, 7), (2, 0), (1, 1), (1, 7), (2, 64))
"""Batch and length: 0, 1, 7 and 128 tokens."""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("is_int8_out", [False, True])
@pytest.mark.parametrize("is_int8_in", [False, True])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_types_and_shapes(kernels: Kernels, dtype: str, is_int8_in: bool, is_int8_out: bool, width: int) -> None:
    for (batch, length), has_types in itertools.product(SHAPES, (False, True)):
        case = EmbedCase(
            dtype=dtype,
            is_int8_in=is_int8_in,
            is_int8_out=is_int8_out,
            batch=batch,
            length=length,
            width=width,
            has_types=has_types,
            position_batch=1 if has_types else batch,
        )
        check(kernels, case)


@pytest.mark.parametrize("position_batch", [1, 3])
@pytest.mark.parametrize("has_types", [False, True])
@pytest.mark.parametrize("width", [33, 768])
def test_positions_of_one_row_or_of_each(kernels: Kernels, width: int, has_types: bool, position_batch: int) -> None:
    check(kernels, EmbedCase(batch=3, length=11, width=width, has_types=has_types, position_batch=position_batch))


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 1.0])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_epsilon_and_a_large_mean(kernels: Kernels, dtype: str, epsilon: float) -> None:
    check(kernels, EmbedCase(dtype=dtype, epsilon=epsilon))
    check(kernels, EmbedCase(dtype=dtype, epsilon=epsilon, mean=1000.0))


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
@pytest.mark.parametrize("width", [384, 4096])
def test_unaligned_tensors(kernels: Kernels, width: int, dtype: str) -> None:
    for is_int8_in, is_int8_out in itertools.product((False, True), repeat=2):
        check(kernels, EmbedCase(dtype=dtype, is_int8_in=is_int8_in, is_int8_out=is_int8_out, width=width, is_unaligned=True))


@pytest.mark.parametrize("off", ["word", "position", "token_type", "gamma", "beta"])
def test_one_unaligned_tensor(kernels: Kernels, off: str) -> None:
    """Gives what aligned tensors give but for the last digit: a thread then adds up other elements."""
    aligned, unaligned = inputs(EmbedCase()), inputs(EmbedCase(is_unaligned=True))
    for tables in (aligned, unaligned):
        for name in ("word", "position", "token_type"):
            tables[name][...] = np.rint(tables[name].astype(np.float32) * 8)
    got = kernels.embed_layer_norm(**aligned | {off: unaligned[off]})
    np.testing.assert_allclose(got, kernels.embed_layer_norm(**aligned), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "rows"), [("input_ids", WORDS), ("position_ids", POSITIONS), ("token_type_ids", 2)])
@pytest.mark.parametrize("beyond", ["first", "last", "far"])
@pytest.mark.parametrize("width", [33, 384])
def test_an_id_outside_its_table_gives_nan(kernels: Kernels, width: int, beyond: str, name: str, rows: int) -> None:
    arguments = inputs(EmbedCase(width=width, position_batch=2))
    arguments[name][1, 2] = {"first": -rows - 1, "last": rows, "far": np.iinfo(np.int32).min}[beyond]
    wrong = np.zeros((2, 5), bool)
    wrong[1, 2] = True
    got = kernels.embed_layer_norm(**arguments).astype(np.float32)
    assert np.isnan(got[wrong]).all() and np.isfinite(got[~wrong]).all()
    in_int8 = kernels.embed_layer_norm(**arguments, y_scale=Y_SCALE)
    assert (in_int8[wrong] == -128).all()


def test_ids_at_the_ends_of_their_tables(kernels: Kernels) -> None:
    arguments = inputs(EmbedCase(has_types=False))
    for first, last in ((0, WORDS - 1), (-WORDS, -1)):
        arguments["input_ids"][...] = first
        from_the_first = kernels.embed_layer_norm(**arguments)
        arguments["input_ids"][...] = last
        assert not np.array_equal(from_the_first, kernels.embed_layer_norm(**arguments))
    for one, other in ((0, -WORDS), (WORDS - 1, -1)):
        arguments["input_ids"][...] = one
        expected = kernels.embed_layer_norm(**arguments)
        arguments["input_ids"][...] = other
        assert kernels.embed_layer_norm(**arguments).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": -1},
        {"length": -1},
        {"width": 0},
        {"word_rows": 0},
        {"position_rows": 0},
        {"token_type_rows": 0},
        {"position_batch": 3},
        {"token_type": None},
        {"token_type_ids": None},
        {"word_scale": 0.1, "token_type_scale": 0.1},
        {"position_scale": 0.1},
        {"word_scale": 0.1, "position_scale": 0.1},
    ],
    ids=str,
)
def test_refused(kernels: Kernels, wrong: dict[str, Any]) -> None:
    values = inputs(EmbedCase())
    sizes = {
        "batch": 2,
        "position_batch": 1,
        "length": 5,
        "width": 128,
        "word_rows": WORDS,
        "position_rows": POSITIONS,
        "token_type_rows": 2,
    }
    y = np.empty((2, 5, 128), np.float16)
    with pytest.raises(KernelError) as error:
        kernels.start("fused_embed_layer_norm", y.dtype, values | sizes | {"y": y} | wrong)
    assert error.value.code == 1
