"""Put attention into half: huge q, k and v are scaled by powers of two that its scale and its result take back."""

import math

import numpy as np
import onnx_ir as ir

from trtbert.errors import UnsupportedError
from trtbert.ops import qkv_columns
from trtbert.precision.forms import Forms
from trtbert.precision.scaling import attention_exponents, overflow_exponent
from trtbert.precision.scan import Peaks


def lower_fused_attention(node: ir.Node, forms: Forms, peaks: Peaks) -> str | None:
    """FusedQkvAttention on q * 2^-a, k * 2^-b, v * 2^-c, at scale * 2^(a+b), gives context * 2^-c: exact.

    Holds for q, k, v of any size and for scores of any size, since the op multiplies by what is above 1 of its scale in
    float32. What stays is the rounding of q and k to half: a score of 10^5 is known to about 50.
    """
    qkv = node.inputs[0]
    assert qkv is not None
    num_heads, head_size, num_kv_heads = (node.attributes.get_int(name, 0) for name in ("num_heads", "head_size", "num_kv_heads"))
    parts = qkv_columns(num_heads, head_size, num_kv_heads)
    scale = node.attributes.get_float("scale", 1.0)
    columns = np.broadcast_to(peaks.columns(qkv), parts[-1].stop)
    heads = (columns[part].reshape(-1, head_size) for part in parts)
    peaks_3NH = np.stack([np.repeat(part, num_heads // len(part), axis=0) for part in heads])
    found = attention_exponents(peaks_3NH, scale, limit=forms.format.limit)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        node.replace_input_with(2, forms.native(node.inputs[2], node))
    if not found:
        node.replace_input_with(0, forms.half(qkv, node))
        forms.put_half(node.outputs[0])
        return None
    exponents = np.repeat([-found.q, -found.k, -found.v], [part.stop - part.start for part in parts])
    node.replace_input_with(0, forms.cast(forms.multiplied(forms.floating(qkv, node), exponents, node), node))
    node.attributes["scale"] = ir.AttrFloat32("scale", math.ldexp(scale, found.q + found.k))
    for name, exponent in (("q_scale", found.q), ("k_scale", found.k), ("v_scale", found.v)):  # of INT8, if it has them
        if name in node.attributes:
            node.attributes[name] = ir.AttrFloat32(name, math.ldexp(node.attributes.get_float(name, 0.0), -exponent))
    forms.put_half(node.outputs[0], found.v)
    return f"{qkv.name}: reaches {peaks.of(qkv):.3g}; q, k, v are attended to times 2^-{found.q}, 2^-{found.k}, 2^-{found.v}"


def lower_attention(node: ir.Node, forms: Forms, peaks: Peaks) -> str | None:
    """The standard Attention: as the fused one, but its scaled scores themselves have to fit in a half."""
    inputs = [value for value in node.inputs[:3] if value is not None]
    found = [max(forms.exponent(value), overflow_exponent(peaks.of(value), forms.format.limit)) for value in inputs]
    if found[0] + found[1]:
        node.attributes["scale"] = ir.AttrFloat32("scale", math.ldexp(_scale(node), found[0] + found[1]))
    for index, (value, exponent) in enumerate(zip(inputs, found, strict=True)):
        node.replace_input_with(index, forms.half(value, node, exponent))
    _lower_mask(node, forms)
    node.attributes.pop("softmax_precision", None)  # TensorRT refuses it, and takes float32 by itself
    forms.put_half(node.outputs[0], found[2])
    return f"{node.outputs[0].name}: q, k, v are attended to times 2^-{found}" if any(found) else None


def _lower_mask(node: ir.Node, forms: Forms) -> None:
    """An additive mask takes the type of q: cut a float32 one off where half ends, a cast to half would make infinity of it.

    What the scan saw does not count here: the texts may have had no padding.
    """
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    if mask is None or mask.dtype not in (ir.DataType.FLOAT, forms.format.dtype):
        return
    found = forms.native(mask, node)
    if found.dtype == ir.DataType.FLOAT:
        found = forms.cast(forms.at_least(found, forms.format.mask, node), node)
    node.replace_input_with(3, found)


def _scale(node: ir.Node) -> float:
    """The scale of a standard Attention: its attribute, or 1 / sqrt(head size)."""
    if "scale" in node.attributes:
        return node.attributes.get_float("scale", 1.0)
    q = node.inputs[0]
    assert q is not None
    width = None if q.shape is None else q.shape[-1]
    if not isinstance(width, int):
        raise UnsupportedError(
            f"Attention {node.name!r} overflows float16 and cannot be scaled: neither its scale nor its head size is known. "
            "Export the model with a fixed head size, or compile it with --precision bf16 or fp32."
        )
    return 1.0 / math.sqrt(width / (node.attributes.get_int("q_num_heads", 1) if len(q.shape or ()) == 3 else 1))
