"""Polygraphy's CPU reference runner runs graphs with plugins, as its users would have it do."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tests.builders.fused import Encoder, feeds, fused_encoder
from tests.builders.onnx_text import Feeds, parse, run
from tests.numerics import assert_close
from trtbert.builders.packing import pack
from trtbert.builders.plugins import lower_for_plugins
from trtbert.ops import DOMAIN, PLUGIN_OPS

pytest.importorskip("onnx_graphsurgeon", reason="onnx-graphsurgeon is not installed: pip install 'trtbert[debug]'")
pluginref = pytest.importorskip("polygraphy.backend.pluginref", reason="polygraphy is not installed: pip install 'trtbert[debug]'")


def run_by_polygraphy(model: ir.Model, given: Feeds) -> list[Any]:
    from polygraphy.backend.onnx import GsFromOnnx

    from trtbert.polygraphy_references import register_references

    assert register_references() == []
    with pluginref.PluginRefRunner(GsFromOnnx(ir.to_proto(model))) as runner:
        return list(runner.infer(given).values())


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT, ir.DataType.FLOAT16])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_whole_encoder(is_packed: bool, dtype: ir.DataType) -> None:
    model = fused_encoder(Encoder(dtype=dtype))
    lowered, _ = lower_for_plugins(pack(model).model if is_packed else model, "sm75")
    assert not lowered.functions and sum(node.domain == DOMAIN for node in lowered.graph) == 9
    given: Feeds = {**feeds(3, 7)}
    (actual,), (expected,) = run_by_polygraphy(lowered, given), run(model, given)
    is_kept = given["attention_mask"] != 0
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    assert_close(actual[is_kept], expected[is_kept], "float32" if dtype == ir.DataType.FLOAT else "float16")


def test_int8_between_plugins() -> None:
    model = parse("""
    g (float[b,s,8] x, float[8] bias, float[8,8] w) => (float[b,s,8] z)
    <float scale = {0.05}, int8 zero = {0}, float[b,s,8] y, int8[b,s,8] q, float[b,s,8] d>
    { y = trtbert.FusedBiasGelu <approximate = "tanh"> (x, bias)
      q = QuantizeLinear (y, scale, zero) d = DequantizeLinear (q, scale, zero) z = MatMul (d, w) }""")
    lowered, _ = lower_for_plugins(model, "sm75")
    assert [node.op_type for node in lowered.graph] == ["FusedBiasGelu", "DequantizeLinear", "MatMul"]
    rng = np.random.default_rng(0)
    given: Feeds = {name: rng.standard_normal(shape, np.float32) for name, shape in (("x", (2, 3, 8)), ("bias", (8,)), ("w", (8, 8)))}
    assert_close(run_by_polygraphy(lowered, given)[0], run(model, given)[0])


def test_every_plugin_has_its_reference() -> None:
    from polygraphy.backend.pluginref.references import OP_REGISTRY

    from trtbert.polygraphy_references import register_references

    register_references()
    assert PLUGIN_OPS.keys() <= OP_REGISTRY.keys()


@pytest.mark.slow
def test_the_command_line_of_polygraphy_finds_them(tmp_path: Path) -> None:
    lowered, _ = lower_for_plugins(fused_encoder(Encoder()), "sm75")
    ir.save(lowered, tmp_path / "model.onnx")
    shapes = [f"{name}:[2,5]" for name in ("input_ids", "attention_mask", "token_type_ids")]
    polygraphy = str(Path(sys.executable).with_name("polygraphy"))
    command = [polygraphy, "run", str(tmp_path / "model.onnx"), "--pluginref", "--val-range", "[0,1]", "--input-shapes", *shapes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "last_hidden_state [dtype=float32, shape=(2, 5, 48)]" in done.stdout and "PASSED" in done.stdout
