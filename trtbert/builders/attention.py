"""What a FusedQkvAttention node becomes in the ops that runtimes know.

Every public lowering records its nodes on the site's tape and gives their result; None, with nothing recorded, where it does not fit:
none of them fits a node with Q/DQ inside, which keeps its body, and only softmax_attention one with shared heads of keys and values.
A row whose keys are all masked gets some finite context (the fused op says 0).

Legend: B batch, S sequence, D hidden, N heads, G heads of keys and values, H head size.
"""

from collections.abc import Sequence

import onnx_ir as ir

from trtbert.builders.site import CONTRIB, ORT_FLOAT, Attributes, Site
from trtbert.ops import qkv_columns

MASKED = {ir.DataType.FLOAT: -1e30, ir.DataType.BFLOAT16: -1e30, ir.DataType.FLOAT16: -3e4}
"""Added to the score of a masked key: far below any score, and finite still when the score is added to it."""

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_MIN_TENSORRT_HEAD_SIZE = 12
"""TensorRT-RTX 1.7 builds no engine for an Attention with heads of 8; from 12 on all that were tried work."""
_MIN_TENSORRT_HEADS = 2
"""Nor for one with a single head, of any size, which is what pruning may leave of a layer."""


def softmax_attention(site: Site) -> ir.Value | None:
    """Three projections, MatMul, Softmax and MatMul, for ONNX Runtime's CPU provider.

    Each in the order in which it is used, for what one MatMul gives is still in the cache of the next (4 % at batch 8); the output
    of a merged projection is not. Mask and relative bias are added one after the other: their sum would be [B,N,S,S], 800 MB for
    64 texts of 512 tokens and 12 heads. Queries that share a head of keys and values are the rows of one product.
    """
    if _is_int8(site) or not site.has_types((ir.DataType.FLOAT,), 0, 2):
        return None
    parts, bias = _Parts(site), site.input(2)
    k_BNHS, q_BNSH = parts.heads(1, (0, 2, 3, 1)), parts.heads(0, (0, 2, 1, 3))
    if _is_grouped(site):
        q_BNSH = site.op("Reshape", q_BNSH, site.constant([0, site.num_kv_heads, -1, site.head_size]))
    scores = site.op("MatMul", q_BNSH, k_BNHS)
    if parts.projection is None:  # else the scale is in the weights of q
        scores = site.op("Mul", scores, site.constant(site.scale, ir.DataType.FLOAT))
    scores = scores if bias is None else site.op("Add", scores, bias)
    scores = site.op("Add", scores, _additive_mask(site, has_query_axis=bias is None and not _is_grouped(site)))
    probs_BNSS = site.op("Softmax", scores, attributes={"axis": -1})
    context_BNSH = site.op("MatMul", probs_BNSS, parts.heads(2, (0, 2, 1, 3)))
    if _is_grouped(site):
        context_BNSH = site.op("Reshape", context_BNSH, site.constant([0, site.num_heads, -1, site.head_size]))
    return _merge_heads(site, context_BNSH)


def attention_3d(site: Site) -> ir.Value | None:
    """ONNX Attention on q, k and v [B,S,N*H], for ONNX Runtime: its mask has a query axis, [B,1,S,S].

    Not with a relative bias, whose sum with the mask would be as large as softmax_attention says.
    """
    if _is_int8(site) or _is_grouped(site) or not site.has_types(ORT_FLOAT, 0) or site.input(2) is not None:
        return None
    q_BSD, k_BSD, v_BSD = _split(site)
    heads: Attributes = {"q_num_heads": site.num_heads, "kv_num_heads": site.num_heads, "scale": site.scale}
    return site.op("Attention", q_BSD, k_BSD, v_BSD, _additive_mask(site, has_query_axis=True), attributes=heads)


def attention_4d(site: Site) -> ir.Value | None:
    """ONNX Attention on q, k and v [B,N,S,H], for TensorRT: half precision only, and its mask broadcasts, [B,1,1,S]."""
    is_small = site.head_size < _MIN_TENSORRT_HEAD_SIZE or site.num_heads < _MIN_TENSORRT_HEADS
    if _is_int8(site) or _is_grouped(site) or not site.has_types(_HALF, 0, 2) or is_small:
        return None
    split_shape = site.constant([0, 0, site.num_heads, site.head_size])
    q, k, v = (site.op("Transpose", site.op("Reshape", part, split_shape), attributes={"perm": (0, 2, 1, 3)}) for part in _split(site))
    mask, bias = _additive_mask(site, has_query_axis=False), site.input(2)
    if bias is not None:
        key = ("mask and bias", mask, bias)
        site.shared[key] = site.shared[key] if key in site.shared else site.op("Add", mask, bias)
        mask = site.shared[key]
    return _merge_heads(site, site.op("Attention", q, k, v, mask, attributes={"scale": site.scale}))


def multi_head_attention(site: Site) -> ir.Value | None:
    """ONNX Runtime's MultiHeadAttention; the relative bias stays [1,N,S,S] beside the mask [B,S]."""
    if _is_int8(site) or _is_grouped(site) or not site.has_types(ORT_FLOAT, 0, 2):
        return None
    q_BSD, k_BSD, v_BSD = _split(site)
    inputs = (q_BSD, k_BSD, v_BSD, None, _int32_mask(site), site.input(2))
    return site.op("MultiHeadAttention", *inputs, attributes=_contrib_attributes(site), domain=CONTRIB)


def contrib_attention(site: Site) -> ir.Value | None:
    """ONNX Runtime's Attention, which computes the merged QKV projection too; needs the MatMul and the Add before the node.

    Its bias is optional by its schema, but ONNX Runtime 1.31 dies of a segmentation fault without one.
    """
    projection = _projection(site)
    if _is_int8(site) or _is_grouped(site) or projection is None or projection[1].const_value is None:
        return None
    if not site.has_types(ORT_FLOAT, 0, 2):
        return None
    attributes = _contrib_attributes(site) | {"qkv_hidden_sizes": [site.num_heads * site.head_size] * 3}
    return site.op("Attention", *projection, _int32_mask(site), None, site.input(2), attributes=attributes, domain=CONTRIB)


def _is_int8(site: Site) -> bool:
    """Whether Q and DQ are inside the node; its body has them, and nothing else here does."""
    return "int8" in site.node.overload.split(".")


def _is_grouped(site: Site) -> bool:
    return "grouped" in site.node.overload.split(".")


def qkv_matmul(node: ir.Node) -> ir.Node | None:
    """The MatMul with constant weights, INT8 or float, that makes the packed qkv of an attention node; its Add has a constant bias."""
    matmul = _producer(node, 0)
    if matmul is not None and matmul.op_type == "Add":
        matmul = next((made for made in (_producer(matmul, 0), _producer(matmul, 1)) if made is not None), None)
    if matmul is None or matmul.op_type != "MatMul" or _constant_rank(stored(matmul.inputs[1])) != 2:
        return None
    return matmul


def stored(weight: ir.Value | None) -> ir.Value | None:
    """The constant that a weight is dequantized from, or the weight itself."""
    node = None if weight is None else weight.producer()
    return weight if node is None or node.op_type != "DequantizeLinear" else node.inputs[0]


def _projection(site: Site) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    """Input [B,S,D], weight [D,(N+2*G)*H] and bias [(N+2*G)*H] of the merged projection; None if it has another form."""
    matmul, made = qkv_matmul(site.node), site.required(0).producer()
    if matmul is None or made is None or made is matmul:
        return None
    (bias,) = (value for value in made.inputs if value is not matmul.outputs[0])
    x_BSD, weight = matmul.inputs
    if x_BSD is None or weight is None or bias is None or _constant_rank(bias) != 1:
        return None
    return x_BSD, weight, bias


def _producer(node: ir.Node, index: int) -> ir.Node | None:
    value = node.inputs[index]
    return None if value is None else value.producer()


def _constant_rank(value: ir.Value | None) -> int | None:
    """The rank of a weight; None for what is computed."""
    return None if value is None or value.const_value is None else len(value.const_value.shape)


def _split(site: Site) -> Sequence[ir.Value]:
    sizes = site.constant([columns.stop - columns.start for columns in _columns(site)])
    return site.tape.op_multi_out("Split", [site.required(0), sizes], {"axis": -1}, num_outputs=3)


def _columns(site: Site) -> tuple[slice, slice, slice]:
    return qkv_columns(site.num_heads, site.head_size, site.num_kv_heads)


class _Parts:
    """q, k and v (0, 1 and 2) of a node, each by a MatMul and an Add of its own where a biased projection is before the node."""

    def __init__(self, site: Site) -> None:
        self.site, self.projection = site, _projection(site)
        self.split = _split(site) if self.projection is None else ()

    def heads(self, part: int, perm: tuple[int, ...]) -> ir.Value:
        """The part [B,S,N|G,H], its axes permuted."""
        num_heads = self.site.num_heads if part == 0 else self.site.num_kv_heads
        split = self.site.op("Reshape", self._values(part), self.site.constant([0, 0, num_heads, self.site.head_size]))
        return self.site.op("Transpose", split, attributes={"perm": perm})

    def _values(self, part: int) -> ir.Value:
        if self.projection is None:
            return self.split[part]
        x_BSD, weight, bias = self.projection
        product = self.site.op("MatMul", x_BSD, _scaled_parts(self.site, weight)[part])
        return self.site.op("Add", product, _scaled_parts(self.site, bias)[part])


def _scaled_parts(site: Site, weight: ir.Value) -> list[ir.Value]:
    """The q, k and v parts of a merged weight or bias, q times the scale of the scores; made once for all layers that share it."""
    key = ("scaled part", weight, site.scale)
    if (*key, 0) not in site.shared:
        dequantize = weight.producer()
        if dequantize is None:
            parts = _split_constant(site, weight, site.scale)
        else:
            data, scale, zero = (value for value in dequantize.inputs if value is not None)
            inputs = zip(_split_constant(site, data), _split_constant(site, scale, site.scale), _split_constant(site, zero), strict=True)
            parts = [site.op("DequantizeLinear", *part, attributes={"axis": 1}) for part in inputs]
        site.shared.update({(*key, i): part for i, part in enumerate(parts)})
    return [site.shared[(*key, i)] for i in range(3)]


def _split_constant(site: Site, constant: ir.Value, q_factor: float | None = None) -> list[ir.Value]:
    assert constant.const_value is not None
    q, k, v = (constant.const_value.numpy()[..., columns] for columns in _columns(site))
    q = q if q_factor is None else q * q.dtype.type(q_factor)
    return [site.tape.initializer(ir.tensor(part, name=f"{constant.name}.{letter}")) for part, letter in zip((q, k, v), "qkv", strict=True)]


def _merge_heads(site: Site, context_BNSH: ir.Value) -> ir.Value:
    context_BSNH = site.op("Transpose", context_BNSH, attributes={"perm": (0, 2, 1, 3)})
    return site.op("Reshape", context_BSNH, site.constant([0, 0, site.num_heads * site.head_size]))


def _additive_mask(site: Site, *, has_query_axis: bool) -> ir.Value:
    """0 for a key that is kept and MASKED for one that is not, [B,1,1,S], or [B,1,S,S] with a query axis.

    Made once for all nodes with the same mask.
    """
    mask = site.required(1)
    key = ("additive mask", mask, has_query_axis)
    if key not in site.shared:
        dtype = site.required(0).dtype
        assert dtype is not None
        is_kept = site.op("Cast", mask, attributes={"to": ir.DataType.BOOL})
        is_kept_B11S = site.op("Unsqueeze", is_kept, site.constant([1, 2]))
        made = site.op("Where", is_kept_B11S, site.constant(0, dtype), site.constant(MASKED[dtype], dtype))
        if has_query_axis:
            length_1 = site.op("Shape", mask, attributes={"start": 1, "end": 2})
            made = site.op("Expand", made, site.op("Concat", site.constant([1, 1]), length_1, site.constant([1]), attributes={"axis": 0}))
        site.shared[key] = made
    return site.shared[key]


def _int32_mask(site: Site) -> ir.Value:
    """The mask [B,S] as the 0 and 1 that contrib ops want."""
    mask = site.required(1)
    if ("int32 mask", mask) not in site.shared:
        is_kept = site.op("Cast", mask, attributes={"to": ir.DataType.BOOL})
        site.shared["int32 mask", mask] = site.op("Cast", is_kept, attributes={"to": ir.DataType.INT32})
    return site.shared["int32 mask", mask]


def _contrib_attributes(site: Site) -> Attributes:
    dtype = site.required(0).dtype
    assert dtype is not None
    return {"num_heads": site.num_heads, "scale": site.scale, "mask_filter_value": MASKED[dtype]}
