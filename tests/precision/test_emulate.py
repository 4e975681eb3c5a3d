"""The emulated graph rounds where a GPU rounds."""

import ml_dtypes
import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from tests.precision.encoder import run
from trtbert.precision import emulated


def product(onnx_type: str, number: int) -> ir.Model:
    """(x as half) * (x as half), back in float32."""
    return ir.from_proto(
        onnx.parser.parse_model(f"""
<ir_version: 10, opset_import: ["" : 23]>
square (float[n] x) => (float[n] y) {{
  half = Cast <to = {number}> (x)
  squared = Mul (half, half)
  y = Cast <to = 1> (squared)
}}""")
    )


@pytest.mark.parametrize("onnx_type,number,dtype", [("float16", 10, np.float16), ("bfloat16", 16, ml_dtypes.bfloat16)])
def test_each_result_is_rounded(onnx_type: str, number: int, dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    model = emulated(product(onnx_type, number))
    assert all(value.dtype == ir.DataType.FLOAT for node in model.graph if node.op_type == "Mul" for value in node.inputs)
    actual = run(model, {"x": x})[0]
    half = x.astype(dtype).astype(np.float32)
    expected = (half * half).astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(actual, expected)


def test_overflow_shows() -> None:
    actual = run(emulated(product("float16", 10)), {"x": np.array([300.0, 1.0], np.float32)})[0]
    assert actual.tolist() == [np.inf, 1.0]
