"""What each fused node becomes in the ops that runtimes know: ONNX's own, and ONNX Runtime's contrib ops.

Every function records its nodes on the site's tape and gives their result; None, with nothing recorded, where they do not fit.
A row whose keys are all masked gets some finite context (the fused op says 0).

Legend: B batch, S sequence, D hidden, N heads, H head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

CONTRIB = "com.microsoft"

MASKED = {ir.DataType.FLOAT: -1e30, ir.DataType.BFLOAT16: -1e30, ir.DataType.FLOAT16: -3e4}
"""Added to the score of a masked key: far below any score, and finite still when the score is added to it."""

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_ORT_FLOAT = (ir.DataType.FLOAT, ir.DataType.FLOAT16)

Attributes = dict[str, int | float | str | Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Site:
    """One fused node, the tape that takes its replacement, and the values that all nodes of the model share (masks)."""

    node: ir.Node
    tape: ir.tape.Tape
    shared: dict[tuple[object, ...], ir.Value]

    def op(self, name: str, *inputs: ir.Value | None, attributes: Attributes | None = None, domain: str = "") -> ir.Value:
        return self.tape.op(name, inputs, attributes or {}, domain=domain)

    def constant(self, value: npt.ArrayLike, dtype: ir.DataType = ir.DataType.INT64) -> ir.Value:
        tensor = ir.tensor(np.asarray(value, dtype.numpy()), dtype=dtype)
        return self.tape.op("Constant", [], {"value": tensor})

    def input(self, index: int) -> ir.Value | None:
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def required(self, index: int) -> ir.Value:
        value = self.node.inputs[index]
        assert value is not None, f"input {index} of {self.node.op_type} is missing"
        return value

    def has_types(self, allowed: Sequence[ir.DataType], *inputs: int) -> bool:
        """Whether these inputs, where they are there, have one and the same type and it is allowed."""
        types = {value.dtype for value in map(self.input, inputs) if value is not None}
        return len(types) == 1 and types <= set(allowed)

    @property
    def num_heads(self) -> int:
        return self.node.attributes["num_heads"].as_int()

    @property
    def head_size(self) -> int:
        return self.node.attributes["head_size"].as_int()

    @property
    def scale(self) -> float:
        return self.node.attributes["scale"].as_float()

    @property
    def epsilon(self) -> float:
        return self.node.attributes["epsilon"].as_float()


def attention_3d(site: Site) -> ir.Value | None:
    """ONNX Attention on q, k and v [B,S,N*H], for ONNX Runtime: its mask has a query axis, [B,1,S,S].

    Not with a relative bias: the sum of mask and bias would be [B,N,S,S], 800 MB for 64 texts of 512 tokens and 12 heads.
    """
    if not site.has_types(_ORT_FLOAT, 0) or site.input(2) is not None:
        return None
    q_BSD, k_BSD, v_BSD = _split(site)
    heads: Attributes = {"q_num_heads": site.num_heads, "kv_num_heads": site.num_heads, "scale": site.scale}
    return site.op("Attention", q_BSD, k_BSD, v_BSD, _additive_mask(site, has_query_axis=True), attributes=heads)


def attention_4d(site: Site) -> ir.Value | None:
    """ONNX Attention on q, k and v [B,N,S,H], for TensorRT: half precision only, and its mask broadcasts, [B,1,1,S]."""
    if not site.has_types(_HALF, 0, 2):
        return None
    split_shape = site.constant([0, 0, site.num_heads, site.head_size])
    q, k, v = (site.op("Transpose", site.op("Reshape", part, split_shape), attributes={"perm": (0, 2, 1, 3)}) for part in _split(site))
    context_BNSH = site.op("Attention", q, k, v, _additive_mask(site, has_query_axis=False), attributes={"scale": site.scale})
    context_BSNH = site.op("Transpose", context_BNSH, attributes={"perm": (0, 2, 1, 3)})
    return site.op("Reshape", context_BSNH, site.constant([0, 0, site.num_heads * site.head_size]))


def multi_head_attention(site: Site) -> ir.Value | None:
    """ONNX Runtime's MultiHeadAttention; the relative bias stays [1,N,S,S] beside the mask [B,S]."""
    if not site.has_types(_ORT_FLOAT, 0, 2):
        return None
    q_BSD, k_BSD, v_BSD = _split(site)
    inputs = (q_BSD, k_BSD, v_BSD, None, _int32_mask(site), site.input(2))
    return site.op("MultiHeadAttention", *inputs, attributes=_contrib_attributes(site), domain=CONTRIB)


def contrib_attention(site: Site) -> ir.Value | None:
    """ONNX Runtime's Attention, which computes the merged QKV projection too; needs the MatMul and the Add before the node.

    Its bias is optional by its schema, but ONNX Runtime 1.31 dies of a segmentation fault without one.
    """
    projection = _projection(site)
    if projection is None or not site.has_types(_ORT_FLOAT, 0, 2):
        return None
    attributes = _contrib_attributes(site) | {"qkv_hidden_sizes": [site.num_heads * site.head_size] * 3}
    return site.op("Attention", *projection, _int32_mask(site), None, site.input(2), attributes=attributes, domain=CONTRIB)


def skip_layer_norm(site: Site) -> ir.Value | None:
    """Sum, then LayerNormalization.

    Sum, for ONNX Runtime makes Add and LayerNormalization one SkipLayerNormalization, whose CPU kernel takes three times as long.
    """
    if not site.has_types(_ORT_FLOAT, 0, 1, 2, 3, 4):
        return None
    bias = site.input(4)
    total = site.op("Sum", site.required(0), site.required(1), *(() if bias is None else (bias,)))
    return _layer_norm(site, total, 2, 3)


def contrib_skip_layer_norm(site: Site) -> ir.Value | None:
    if not site.has_types(_ORT_FLOAT, 0, 1, 2, 3, 4):
        return None
    return site.op("SkipLayerNormalization", *site.node.inputs, attributes={"epsilon": site.epsilon}, domain=CONTRIB)


def bias_gelu(site: Site) -> ir.Value | None:
    if not site.has_types(_ORT_FLOAT, 0, 1):
        return None
    total = site.op("Add", site.required(0), site.required(1))
    return site.op("Gelu", total, attributes={"approximate": site.node.attributes["approximate"].as_string()})


def contrib_bias_gelu(site: Site) -> ir.Value | None:
    """ONNX Runtime's BiasGelu is the exact GELU."""
    return _contrib_gelu(site, "BiasGelu", "none")


def contrib_fast_gelu(site: Site) -> ir.Value | None:
    """ONNX Runtime's FastGelu is the tanh GELU."""
    return _contrib_gelu(site, "FastGelu", "tanh")


def embed_layer_norm(site: Site) -> ir.Value | None:
    """Gathers, Sum and LayerNormalization (Sum for the reason that skip_layer_norm gives)."""
    if not site.has_types(_ORT_FLOAT, 2, 3, 4, 5, 7):
        return None
    parts = [site.op("Gather", site.required(table), site.required(ids)) for ids, table in ((0, 2), (1, 3))]
    if site.input(6) is not None:
        parts.append(site.op("Gather", site.required(7), site.required(6)))
    return _layer_norm(site, site.op("Sum", *parts), 4, 5)


def contrib_embed_layer_norm(site: Site) -> ir.Value | None:
    if not site.has_types(_ORT_FLOAT, 2, 3, 4, 5, 7) or not site.has_types((ir.DataType.INT32,), 0, 6):
        return None
    position_ids = site.op("Cast", site.required(1), attributes={"to": ir.DataType.INT32})
    inputs = [site.input(i) for i in (0, 6, 2, 3, 7, 4, 5)] + [None, position_ids]
    y, _ = site.tape.op_multi_out("EmbedLayerNormalization", inputs, {"epsilon": site.epsilon}, num_outputs=2, domain=CONTRIB)
    return y


def qkv_matmul(node: ir.Node) -> ir.Node | None:
    """The MatMul with constant weights that makes the packed qkv of an attention node; its Add, if any, has a constant bias."""
    matmul = _producer(node, 0)
    if matmul is not None and matmul.op_type == "Add":
        matmul = next((made for made in (_producer(matmul, 0), _producer(matmul, 1)) if made is not None), None)
    if matmul is None or matmul.op_type != "MatMul" or _constant_rank(matmul.inputs[1]) != 2:
        return None
    return matmul


def _projection(site: Site) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    """Input [B,S,D], weight [D,3*N*H] and bias [3*N*H] of the merged projection; None if it has another form."""
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
    return site.tape.op_multi_out("Split", [site.required(0)], {"axis": -1, "num_outputs": 3}, num_outputs=3)


def _additive_mask(site: Site, *, has_query_axis: bool) -> ir.Value:
    """0 for a key that is kept and MASKED for one that is not, plus the relative bias; made once for all nodes with the same mask.

    [B,1,1,S]; with a query axis [B,1,S,S]; with a relative bias [B,N,S,S].
    """
    mask, bias = site.required(1), site.input(2)
    key = ("additive mask", mask, bias, has_query_axis)
    if key not in site.shared:
        dtype = site.required(0).dtype
        assert dtype is not None
        is_kept = site.op("Cast", mask, attributes={"to": ir.DataType.BOOL})
        is_kept_B11S = site.op("Unsqueeze", is_kept, site.constant([1, 2]))
        made = site.op("Where", is_kept_B11S, site.constant(0, dtype), site.constant(MASKED[dtype], dtype))
        if bias is not None:
            made = site.op("Add", made, bias)
        elif has_query_axis:
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


def _layer_norm(site: Site, total: ir.Value, gamma: int, beta: int) -> ir.Value:
    attributes: Attributes = {"axis": -1, "epsilon": site.epsilon}
    return site.op("LayerNormalization", total, site.required(gamma), site.required(beta), attributes=attributes)


def _contrib_gelu(site: Site, op_type: str, approximate: str) -> ir.Value | None:
    if site.node.attributes["approximate"].as_string() != approximate or not site.has_types(_ORT_FLOAT, 0, 1):
        return None
    return site.op(op_type, *site.node.inputs, domain=CONTRIB)
