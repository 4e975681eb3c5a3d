"""One case of FusedEmbedLayerNorm: random ids and tables through the kernel and through the reference."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.plugins.arrays import Array, Random
from tests.plugins.cases.scales import exact, normal_or_int8, scale
from tests.plugins.kernels import FLOAT_TYPES, Kernels
from tests.plugins.numerics import assert_exact, assert_exact_int8
from tests.plugins.terms import layer_norm_terms
from trtbert.ops import fused_embed_layer_norm

WORDS, POSITIONS, TYPES = 23, 140, 2
SCALES = {"word_scale": scale(0.031), "position_scale": scale(0.017), "token_type_scale": scale(0.011)}
Y_SCALE = scale(0.023)


@dataclass(frozen=True, kw_only=True)
class EmbedCase:
    dtype: str = "fp16"
    is_int8_in: bool = False
    is_int8_out: bool = False
    batch: int = 2
    length: int = 5
    width: int = 128
    has_types: bool = True
    position_batch: int = 1
    epsilon: float = 1e-12
    mean: float = 0.0
    is_unaligned: bool = False


def inputs(case: EmbedCase) -> dict[str, Any]:
    """The arguments of the kernel, which are those of the reference; a third of the ids count from the end."""
    random, dtype = Random(case.width + case.length, is_unaligned=case.is_unaligned), FLOAT_TYPES[case.dtype]
    scales = {name: value for name, value in SCALES.items() if case.is_int8_in and (case.has_types or name != "token_type_scale")}

    def table(rows: int, name: str, mean: float = 0.0) -> Array:
        return normal_or_int8(random, (rows, case.width), dtype, scales.get(f"{name}_scale", 0.0), mean=mean)

    def ids(rows: int, batch: int) -> Array:
        return random.integers(-(rows // 2), rows, (batch, case.length), np.int32)

    arguments = {
        "input_ids": ids(WORDS, case.batch),
        "position_ids": ids(POSITIONS, case.position_batch),
        "word": table(WORDS, "word", case.mean),
        "position": table(POSITIONS, "position"),
        "gamma": random.normal((case.width,), dtype),
        "beta": random.normal((case.width,), dtype),
        "epsilon": scale(case.epsilon),
    }
    if case.has_types:
        arguments |= {"token_type_ids": ids(TYPES, case.batch), "token_type": table(TYPES, "token_type")}
    return arguments | scales


def check(kernels: Kernels, case: EmbedCase) -> None:
    arguments = inputs(case)
    y_scale = Y_SCALE if case.is_int8_out else 0.0
    got = kernels.embed_layer_norm(**arguments, y_scale=y_scale)
    expected = fused_embed_layer_norm(**arguments)
    ids = {"word": "input_ids", "token_type": "token_type_ids", "position": "position_ids"}
    summands = [
        exact(arguments[table], arguments.get(f"{table}_scale", 0.0))[arguments[of_table]]
        for table, of_table in ids.items()
        if table in arguments
    ]
    terms = layer_norm_terms(summands, arguments["gamma"], arguments["beta"], arguments["epsilon"])
    if y_scale:
        assert_exact_int8(got, expected, y_scale, terms)
    else:
        assert_exact(got, expected, terms)
