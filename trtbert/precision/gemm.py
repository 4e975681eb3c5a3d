"""Put MatMul, Gemm, Conv and Einsum into half, scaled by powers of two where they would overflow."""

import numpy as np
import onnx_ir as ir

from trtbert.precision.formats import Array
from trtbert.precision.forms import Forms
from trtbert.precision.kinds import stored_weight
from trtbert.precision.scaling import Exponents, gemm_exponents, product_exponents
from trtbert.precision.scan import Peaks


def lower_gemm(node: ir.Node, forms: Forms, peaks: Peaks) -> str | None:
    """Give `node` half operands; gives a note if it had to be scaled."""
    x, weight = node.inputs[0], node.inputs[1]
    assert x is not None and weight is not None
    if weight.const_value is None and node.op_type == "MatMul" and stored_weight(node) is not None:
        exponents = _linear_int8(node, x, weight, forms, peaks)
    elif weight.const_value is not None and (node.op_type == "Conv" or _has_columns(node, weight)):
        exponents = _linear(node, x, weight, forms, peaks)
    else:
        exponents = _product(node, x, weight, forms, peaks)
    result = node.outputs[0]
    if (exponents == exponents[0]).all():
        forms.put_half(result, int(exponents[0]))
    else:
        forms.put_columns(result, exponents)
    if not exponents.any():
        return None
    return f"{result.name}: reaches {peaks.of(result):.3g}; its {node.op_type} is computed times 2^-{int(np.abs(exponents).max())}"


def _linear_int8(node: ir.Node, x: ir.Value, weight: ir.Value, forms: Forms, peaks: Peaks) -> Array:
    """y = x DQ(Wq), Wq constant: the powers of two go into the scale of each column, so that nothing stands between DQ and the GEMM."""
    dequantize = weight.producer()
    assert dequantize is not None
    data_KN, scale_N, zero_N = dequantize.inputs
    assert data_KN is not None and scale_N is not None and zero_N is not None
    assert data_KN.const_value is not None and scale_N.const_value is not None
    scale = scale_N.const_value.numpy().astype(np.float32)  # exact in half too
    weight_peak = np.abs(data_KN.const_value.numpy().astype(np.float32)).max(0, initial=0.0) * scale
    result_peak = np.broadcast_to(peaks.columns(node.outputs[0]), scale.shape)
    found = gemm_exponents(peaks.of(x), weight_peak, result_peak, limit=forms.format.limit, x_exponent=forms.exponent(x))
    node.replace_input_with(0, forms.half(x, node, found.x))
    if not found.weight.any():
        node.replace_input_with(1, forms.half(weight, node))
        return found.result
    scaled = forms.initializer(f"{weight.name}_scale", forms.format.rounded(np.ldexp(scale, -found.weight.astype(np.int32))))
    node.replace_input_with(1, forms.emit("DequantizeLinear", [data_KN, scaled, zero_N], forms.format.dtype, node, axis=1))
    return found.result


def _has_columns(node: ir.Node, weight: ir.Value) -> bool:
    return node.op_type in ("MatMul", "Gemm") and weight.const_value is not None and len(weight.const_value.shape) == 2


def _linear(node: ir.Node, x: ir.Value, weight: ir.Value, forms: Forms, peaks: Peaks) -> Array:
    """y = x W (+ c), W constant; gives the exponents of y, one or one per column."""
    bias = _bias(node)
    result_peak = np.maximum(peaks.columns(node.outputs[0]), peaks.of(bias))
    is_per_column = result_peak.ndim == 1 and (bias is None or bias.const_value is not None)
    is_transposed = node.attributes.get_int("transB", 0) == 1
    weight_peak = np.asarray(peaks.of(weight))
    if is_per_column:
        assert weight.const_value is not None
        weight_peak = np.abs(weight.const_value.numpy()).max(1 if is_transposed else 0, initial=0.0)
    else:
        result_peak = np.asarray(result_peak.max(initial=0.0))
    if forms.format.is_narrow:
        found = gemm_exponents(peaks.of(x), weight_peak, result_peak, limit=forms.format.limit, x_exponent=forms.exponent(x))
    else:
        found = Exponents(0, np.zeros(1, np.int64), np.zeros(1, np.int64))
    node.replace_input_with(0, forms.half(x, node, found.x))
    node.replace_input_with(1, forms.constant(weight, _for_weight(found, is_per_column, is_transposed)))
    _lower_bias(node, found.result, forms)
    return found.result


def _for_weight(found: Exponents, is_per_column: bool, is_transposed: bool) -> int | Array:
    if not is_per_column:
        return int(found.weight[0])
    if not found.weight.any():
        return 0
    return found.weight[:, None] if is_transposed else found.weight


def _bias(node: ir.Node) -> ir.Value | None:
    return node.inputs[2] if len(node.inputs) > 2 and node.op_type in ("Gemm", "Conv") else None


def _lower_bias(node: ir.Node, exponents: Array, forms: Forms) -> None:
    bias = _bias(node)
    if bias is None:
        return
    if bias.const_value is not None:
        node.replace_input_with(2, forms.constant(bias, exponents if exponents.any() else 0))
    else:
        node.replace_input_with(2, forms.half(bias, node, int(exponents[0])))


def _product(node: ir.Node, a: ir.Value, b: ir.Value, forms: Forms, peaks: Peaks) -> Array:
    """y = a b, both computed; gives the one exponent of y."""
    given = (forms.exponent(a), forms.exponent(b))
    limit = forms.format.limit
    found = product_exponents(peaks.of(a), peaks.of(b), peaks.of(node.outputs[0]), limit=limit, given=given)
    for index, (operand, exponent) in enumerate(zip((a, b), found, strict=True)):
        node.replace_input_with(index, forms.half(operand, node, exponent))
    exponents = np.asarray([sum(found)])
    _lower_bias(node, exponents, forms)
    return exponents
