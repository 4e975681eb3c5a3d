"""The INT8 tensors of plugin nodes in the references: a scale beside a tensor means what DQ before it, or Q after it, means."""

from typing import Any

import numpy as np
import pytest

from trtbert.ops import FUSED_OPS, PLUGIN_OPS, Array

RNG = np.random.default_rng(0)
INT8 = RNG.integers(-128, 128, (4, 6, 8), dtype=np.int8)
OTHER = RNG.integers(-128, 128, (4, 6, 8), dtype=np.int8)
VECTORS = RNG.standard_normal((3, 8)).astype(np.float32)
IDS = np.array([[0, 3, 1], [2, 2, 0]], np.int32)


@pytest.mark.parametrize(
    ("name", "inputs", "scaled", "attributes"),
    [
        ("FusedBiasGelu", [INT8, VECTORS[0]], {0: "x_scale"}, {"approximate": "none"}),
        ("FusedBiasGelu", [INT8, VECTORS[0]], {0: "x_scale"}, {"approximate": "tanh"}),
        ("FusedSkipLayerNorm", [INT8, OTHER, *VECTORS], {0: "x_scale", 1: "skip_scale"}, {"epsilon": 1e-6}),
        (
            "FusedEmbedLayerNorm",
            [IDS, IDS, INT8[0], OTHER[0], *VECTORS[:2], IDS % 2, INT8[1]],
            {2: "word_scale", 3: "position_scale", 7: "token_type_scale"},
            {"epsilon": 1e-6},
        ),
    ],
)
def test_int8_inputs(name: str, inputs: list[Array], scaled: dict[int, str], attributes: dict[str, Any]) -> None:
    scales = {scale: 2.0**-i / 10 for i, scale in enumerate(scaled.values())}
    floats = [array * scales[scaled[i]] if i in scaled else array for i, array in enumerate(inputs)]
    op = FUSED_OPS[name]
    assert set(scales) | {"y_scale"} == set(op.io_scales)
    expected = op.reference(*floats, **attributes)
    assert np.allclose(op.reference(*inputs, **attributes, **scales), expected, rtol=1e-12, atol=1e-12)
    assert not np.allclose(op.reference(*inputs, **attributes), expected)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("FusedBiasGelu", [VECTORS * 100, VECTORS[0]], {"approximate": "none"}),
        ("FusedSkipLayerNorm", [VECTORS, -VECTORS[::-1], *VECTORS], {"epsilon": 1e-6}),
        ("FusedEmbedLayerNorm", [IDS, IDS, INT8[0], OTHER[0], *VECTORS[:2]], {"epsilon": 1e-6}),
        ("FusedQkvAttention", [INT8[:, :, :6] / 50, np.ones((4, 6))], {"num_heads": 1, "head_size": 2, "scale": 1.0}),
        ("FusedPackedQkvAttention", [INT8[0, :, :6] / 50, np.array([0, 2, 2, 6])], {"num_heads": 1, "head_size": 2, "scale": 1.0}),
    ],
)
def test_int8_results_are_rounded_to_even_and_clipped(name: str, inputs: list[Array], attributes: dict[str, Any]) -> None:
    exact = PLUGIN_OPS[name].reference(*inputs, **attributes)
    scale = float(np.abs(exact).max()) / 200
    actual = PLUGIN_OPS[name].reference(*inputs, **attributes, y_scale=scale)
    assert actual.dtype == np.int8 and actual.shape == exact.shape
    assert actual.tolist() == np.clip(np.rint(exact / scale), -128, 127).tolist()
    assert {int(actual.min()), int(actual.max())} & {-128, 127}, "nothing was clipped"


def test_a_packed_batch_with_no_token() -> None:
    op, attributes = PLUGIN_OPS["FusedPackedQkvAttention"], {"num_heads": 3, "head_size": 2, "scale": 1.0}
    empty = np.zeros((0, 18)), np.zeros(4, np.int32)
    assert op.reference(*empty, **attributes).shape == op.reference(*empty, **attributes, y_scale=0.1).shape == (0, 6)
    assert op.reference(*empty, **attributes, y_scale=0.1).dtype == np.int8


def test_the_overload_names_the_optional_parts() -> None:
    attention = PLUGIN_OPS["FusedQkvAttention"]
    assert attention.overload(2, ("scale",)) == "" and attention.overload(3, ("scale",)) == "bias"
    assert attention.overload(2, ("num_kv_heads",)) == "grouped" and attention.overload(2, ("num_kv_heads", "q_scale")) == "grouped.int8"
    assert attention.overload(2, ("q_scale",)) == "int8" and attention.overload(3, ("q_scale",)) == "bias.int8"
    assert FUSED_OPS["FusedEmbedLayerNorm"].overload(8, ()) == "token_type"
    assert FUSED_OPS["FusedSkipLayerNorm"].overload(5, ("y_scale",)) == "bias"


def test_the_packed_attention_is_no_fusion() -> None:
    assert PLUGIN_OPS.keys() - FUSED_OPS.keys() == {"FusedPackedQkvAttention"}
