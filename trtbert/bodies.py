"""The ONNX function body of each fused op: what it computes, in standard ops, for any float type.

Softmax, LayerNorm, GELU and the sums before them run in float32 inside; LayerNorms give the type of gamma, the others that
of their first input. One body per op and set of optional parts: the node's overload names those it has, joined by dots.

Suffixes: _f float32, _1 one axis put in front; B batch, S sequence, T tokens of all sequences, N heads, H head size.
"""

import functools

import onnx
import onnx.parser
import onnx_ir as ir

from trtbert.ops import (
    DOMAIN,
    DOMAIN_VERSION,
    FUSED_BIAS_GELU,
    FUSED_EMBED_LAYER_NORM,
    FUSED_PACKED_QKV_ATTENTION,
    FUSED_QKV_ATTENTION,
    FUSED_SKIP_LAYER_NORM,
    OPSET,
    PLUGIN_OPS,
)

_LAYER_NORM = """
  gamma_f = Cast <to = 1> (gamma)
  beta_f = Cast <to = 1> (beta)
  normed_f = LayerNormalization <axis = -1, epsilon: float = @epsilon, stash_type = 1> (total_f, gamma_f, beta_f)
  y = CastLike (normed_f, gamma)
"""

_EMBED = """
  word_BSD = Gather <axis = 0> (word, input_ids)
  position_BSD = Gather <axis = 0> (position, position_ids)
  word_f = Cast <to = 1> (word_BSD)
  position_f = Cast <to = 1> (position_BSD)
"""

# q is scaled by the power of two next to `scale` if that makes it smaller (exact in every float type) and the scores by what is
# left, in float32: neither can the scores overflow before they are scaled, nor is the scale itself rounded.
_PADDED = "  qkv_BSD = Identity (qkv)"
_PACKED = """
  first = Constant <value_ints = [0]> ()
  qkv_BSD = Unsqueeze (qkv, first)
"""

_SIZES = """
  num_heads_s = Constant <value_int: int = @num_heads> ()
  head_size_s = Constant <value_int: int = @head_size> ()
  scale_f = Constant <value_float: float = @scale> ()
  zero = Constant <value_ints = [0]> ()
  num_heads_1 = Unsqueeze (num_heads_s, zero)
  head_size_1 = Unsqueeze (head_size_s, zero)
"""

_HEADS = """
  keep_three = Constant <value_ints = [0, 0, 3]> ()
  split_shape = Concat <axis = 0> (keep_three, num_heads_1, head_size_1)
  qkv_BS3NH = Reshape (qkv_BSD, split_shape)
  qkv_3BNSH = Transpose <perm = [2, 0, 3, 1, 4]> (qkv_BS3NH)
  i0 = Constant <value_int = 0> ()
  i1 = Constant <value_int = 1> ()
  i2 = Constant <value_int = 2> ()
  q_BNSH = Gather <axis = 0> (qkv_3BNSH, i0)
  k_BNSH = Gather <axis = 0> (qkv_3BNSH, i1)
  v_BNSH = Gather <axis = 0> (qkv_3BNSH, i2)
"""

# The queries that share a head of keys and values are the rows of one product: nothing is repeated, and q_BNSH, the scores and the
# probabilities are [B,G,N/G*S,...]. A mask [B,1,1,S] fits those as well.
_GROUPED_HEADS = """
  num_kv_heads_s = Constant <value_int: int = @num_kv_heads> ()
  num_kv_heads_1 = Unsqueeze (num_kv_heads_s, zero)
  q_width_1 = Mul (num_heads_1, head_size_1)
  kv_width_1 = Mul (num_kv_heads_1, head_size_1)
  widths = Concat <axis = 0> (q_width_1, kv_width_1, kv_width_1)
  q_BSD, k_BSD, v_BSD = Split <axis = -1> (qkv_BSD, widths)
  keep_two = Constant <value_ints = [0, 0]> ()
  q_shape = Concat <axis = 0> (keep_two, num_heads_1, head_size_1)
  kv_shape = Concat <axis = 0> (keep_two, num_kv_heads_1, head_size_1)
  q_BSNH = Reshape (q_BSD, q_shape)
  k_BSGH = Reshape (k_BSD, kv_shape)
  v_BSGH = Reshape (v_BSD, kv_shape)
  ungrouped_BNSH = Transpose <perm = [0, 2, 1, 3]> (q_BSNH)
  k_BNSH = Transpose <perm = [0, 2, 1, 3]> (k_BSGH)
  v_BNSH = Transpose <perm = [0, 2, 1, 3]> (v_BSGH)
  rest_1 = Constant <value_ints = [-1]> ()
  grouped_shape = Concat <axis = 0> (zero, num_kv_heads_1, rest_1, head_size_1)
  q_BNSH = Reshape (ungrouped_BNSH, grouped_shape)
"""

_SCALED = """
  two_f = Constant <value_float = 2.0> ()
  log_scale_f = Log (scale_f)
  log_two_f = Log (two_f)
  log2_scale_f = Div (log_scale_f, log_two_f)
  floor_f = Floor (log2_scale_f)
  none_f = Constant <value_float = 0.0> ()
  exponent_f = Min (floor_f, none_f)
  power_f = Pow (two_f, exponent_f)
  rest_f = Div (scale_f, power_f)
  power = CastLike (power_f, qkv)
  scaled_q_BNSH = Mul (q_BNSH, power)
"""

_FLOAT_OPERANDS = """
  q_operand = Identity (scaled_q_BNSH)
  k_operand = Transpose <perm = [0, 1, 3, 2]> (k_BNSH)
  v_operand = Identity (v_BNSH)
"""


def _through_int8(result: str, x: str, scale: str) -> str:
    return f"""
  {result}_int8 = QuantizeLinear ({x}, {scale}, zero_int8)
  {result} = DequantizeLinear ({result}_int8, {scale}, zero_int8)
"""


# Q and DQ stand right before the products, where TensorRT looks for them: q in them is scaled already, so its scale is as well.
_INT8_OPERANDS = (
    """
  zero_int8 = Constant <value = int8 {0}> ()
  q_scale_f = Constant <value_float: float = @q_scale> ()
  k_scale_f = Constant <value_float: float = @k_scale> ()
  v_scale_f = Constant <value_float: float = @v_scale> ()
  probability_scale_f = Constant <value_float: float = @probability_scale> ()
  scaled_q_scale_f = Mul (q_scale_f, power_f)
  q_scale_t = CastLike (scaled_q_scale_f, qkv)
  k_scale_t = CastLike (k_scale_f, qkv)
  v_scale_t = CastLike (v_scale_f, qkv)
  probability_scale_t = CastLike (probability_scale_f, qkv)
"""
    + _through_int8("q_operand", "scaled_q_BNSH", "q_scale_t")
    + "  k_BNHS = Transpose <perm = [0, 1, 3, 2]> (k_BNSH)"
    + _through_int8("k_operand", "k_BNHS", "k_scale_t")
    + _through_int8("v_operand", "v_BNSH", "v_scale_t")
)

_SCORES = """
  raw_BNSS = MatMul (q_operand, k_operand)
  raw_f = Cast <to = 1> (raw_BNSS)
  scores_f = Mul (raw_f, rest_f)
"""

_NO_BIAS = "total_f = Identity (scores_f)"
_BIAS = """
  bias_f = Cast <to = 1> (bias)
  total_f = Add (scores_f, bias_f)
"""

_MASK = """
  mask_BS = Cast <to = 9> (mask)
  axes_12 = Constant <value_ints = [1, 2]> ()
  is_kept = Unsqueeze (mask_BS, axes_12)
"""

# Token t is of the sequence whose number is how many sequences end at or before t.
_SEGMENTS = """
  one = Constant <value_ints = [1]> ()
  none = Constant <value_int = 0> ()
  next = Constant <value_int = 1> ()
  all_shape = Shape (cu_seqlens)
  ends = Slice (cu_seqlens, one, all_shape)
  ends_B = Cast <to = 7> (ends)
  length_1 = Shape <start = 0, end = 1> (qkv)
  length = Squeeze (length_1)
  tokens_T = Range (none, length, next)
  tokens_T1 = Unsqueeze (tokens_T, one)
  is_after_TB = GreaterOrEqual (tokens_T1, ends_B)
  after_TB = Cast <to = 7> (is_after_TB)
  sequence_T1 = ReduceSum <keepdims = 1> (after_TB, one)
  sequence_1T = Transpose (sequence_T1)
"""
_SAME_SEQUENCE = "is_kept = Equal (sequence_T1, sequence_1T)"
# The queries of all heads that share one of keys and values.
_GROUPED_SAME_SEQUENCE = """
  group_1 = Div (num_heads_1, num_kv_heads_1)
  repeats = Concat <axis = 0> (group_1, one)
  queries_1 = Tile (sequence_T1, repeats)
  is_kept = Equal (queries_1, sequence_1T)
"""

# A finite lowest value: a wholly masked row then has no NaN, and its context is made 0.
_PROBABILITIES = """
  lowest_f = Constant <value_float = -3.4028234663852886e38> ()
  masked_f = Where (is_kept, total_f, lowest_f)
  probs_f = Softmax <axis = -1> (masked_f)
  probs_BNSS = CastLike (probs_f, qkv)
"""

_FLOAT_PROBABILITIES = "probs_operand = Identity (probs_BNSS)"
_INT8_PROBABILITIES = _through_int8("probs_operand", "probs_BNSS", "probability_scale_t")

_WEIGHTED = "context_BNSH = MatMul (probs_operand, v_operand)"
_GROUPED_WEIGHTED = """
  grouped_BNSH = MatMul (probs_operand, v_operand)
  ungrouped_shape = Concat <axis = 0> (zero, num_heads_1, rest_1, head_size_1)
  context_BNSH = Reshape (grouped_BNSH, ungrouped_shape)
"""
_CONTEXT = """
  context_BSNH = Transpose <perm = [0, 2, 1, 3]> (context_BNSH)
"""
_PADDED_CONTEXT = """
  merged_shape = Constant <value_ints = [0, 0, -1]> ()
  context_BSD = Reshape (context_BSNH, merged_shape)
  mask_f = Cast <to = 1> (mask_BS)
  one = Constant <value_ints = [1]> ()
  any_B1 = ReduceMax <keepdims = 1> (mask_f, one)
  any_B11 = Unsqueeze (any_B1, one)
  any = CastLike (any_B11, qkv)
  y = Mul (context_BSD, any)
"""
# Not -1: there may be no token at all, and then no size can be told from the others.
_PACKED_CONTEXT = """
  width_1 = Mul (num_heads_1, head_size_1)
  merged_shape = Concat <axis = 0> (length_1, width_1)
  y = Reshape <allowzero = 1> (context_BSNH, merged_shape)
"""


def _attention(bias: str, operands: str, probabilities: str) -> str:
    before = _PADDED + _SIZES + _HEADS + _SCALED + operands + _SCORES + bias + _MASK + _PROBABILITIES
    return before + probabilities + _WEIGHTED + _CONTEXT + _PADDED_CONTEXT


def _grouped_attention(operands: str, probabilities: str) -> str:
    before = _PADDED + _SIZES + _GROUPED_HEADS + _SCALED + operands + _SCORES + _NO_BIAS + _MASK + _PROBABILITIES
    return before + probabilities + _GROUPED_WEIGHTED + _CONTEXT + _PADDED_CONTEXT


def _packed_attention(operands: str, probabilities: str) -> str:
    before = _PACKED + _SIZES + _HEADS + _SCALED + operands + _SCORES + _NO_BIAS + _SEGMENTS + _SAME_SEQUENCE + _PROBABILITIES
    return before + probabilities + _WEIGHTED + _CONTEXT + _PACKED_CONTEXT


def _grouped_packed_attention(operands: str, probabilities: str) -> str:
    mask = _SEGMENTS + _GROUPED_SAME_SEQUENCE
    before = _PACKED + _SIZES + _GROUPED_HEADS + _SCALED + operands + _SCORES + _NO_BIAS + mask + _PROBABILITIES
    return before + probabilities + _GROUPED_WEIGHTED + _CONTEXT + _PACKED_CONTEXT


_BODIES: dict[tuple[str, str], str] = {
    (FUSED_EMBED_LAYER_NORM.name, ""): _EMBED + "total_f = Add (word_f, position_f)" + _LAYER_NORM,
    (FUSED_EMBED_LAYER_NORM.name, "token_type"): _EMBED
    + """
  type_BSD = Gather <axis = 0> (token_type, token_type_ids)
  type_f = Cast <to = 1> (type_BSD)
  typed_f = Add (word_f, type_f)
  total_f = Add (typed_f, position_f)
"""
    + _LAYER_NORM,
    (FUSED_QKV_ATTENTION.name, ""): _attention(_NO_BIAS, _FLOAT_OPERANDS, _FLOAT_PROBABILITIES),
    (FUSED_QKV_ATTENTION.name, "bias"): _attention(_BIAS, _FLOAT_OPERANDS, _FLOAT_PROBABILITIES),
    (FUSED_QKV_ATTENTION.name, "int8"): _attention(_NO_BIAS, _INT8_OPERANDS, _INT8_PROBABILITIES),
    (FUSED_QKV_ATTENTION.name, "bias.int8"): _attention(_BIAS, _INT8_OPERANDS, _INT8_PROBABILITIES),
    (FUSED_QKV_ATTENTION.name, "grouped"): _grouped_attention(_FLOAT_OPERANDS, _FLOAT_PROBABILITIES),
    (FUSED_QKV_ATTENTION.name, "grouped.int8"): _grouped_attention(_INT8_OPERANDS, _INT8_PROBABILITIES),
    (FUSED_PACKED_QKV_ATTENTION.name, ""): _packed_attention(_FLOAT_OPERANDS, _FLOAT_PROBABILITIES),
    (FUSED_PACKED_QKV_ATTENTION.name, "int8"): _packed_attention(_INT8_OPERANDS, _INT8_PROBABILITIES),
    (FUSED_PACKED_QKV_ATTENTION.name, "grouped"): _grouped_packed_attention(_FLOAT_OPERANDS, _FLOAT_PROBABILITIES),
    (FUSED_PACKED_QKV_ATTENTION.name, "grouped.int8"): _grouped_packed_attention(_INT8_OPERANDS, _INT8_PROBABILITIES),
    (FUSED_SKIP_LAYER_NORM.name, ""): """
  x_f = Cast <to = 1> (x)
  skip_f = Cast <to = 1> (skip)
  total_f = Add (x_f, skip_f)
"""
    + _LAYER_NORM,
    (FUSED_SKIP_LAYER_NORM.name, "bias"): """
  x_f = Cast <to = 1> (x)
  bias_f = Cast <to = 1> (bias)
  skip_f = Cast <to = 1> (skip)
  biased_f = Add (x_f, bias_f)
  total_f = Add (biased_f, skip_f)
"""
    + _LAYER_NORM,
    (FUSED_BIAS_GELU.name, ""): """
  x_f = Cast <to = 1> (x)
  bias_f = Cast <to = 1> (bias)
  total_f = Add (x_f, bias_f)
  gelu_f = Gelu <approximate: string = @approximate> (total_f)
  y = CastLike (gelu_f, x)
""",
}


@functools.cache
def _function_proto(name: str, overload: str) -> onnx.FunctionProto:
    op = PLUGIN_OPS[name]
    parts = set(overload.split("."))
    inputs = op.inputs + (op.optional_inputs if parts - {"", "grouped", "int8"} else ())
    attributes = op.attributes + (op.grouped_attributes if "grouped" in parts else ()) + (op.int8_attributes if "int8" in parts else ())
    listed = f"<{', '.join(attributes)}> " if attributes else ""
    proto = onnx.parser.parse_function(f"""
<domain: "{DOMAIN}", overload: "{overload}", opset_import: ["" : {OPSET}]>
{name} {listed}({", ".join(inputs)}) => (y)
{{ {_BODIES[name, overload]} }}""")
    proto.doc_string = (op.reference.__doc__ or "").strip()
    return proto


def function(name: str, overload: str) -> ir.Function:
    """A new copy of the body of fused op `name` for the optional parts that `overload` names ("" for none)."""
    return ir.serde.deserialize_function(_function_proto(name, overload))


def add_functions(model: ir.Model) -> None:
    """Give `model` the body of every fused node in its graph, and no other."""
    used = {(n.op_type, n.overload) for n in model.graph.all_nodes() if n.domain == DOMAIN}
    for key in [key for key in model.functions if key[0] == DOMAIN]:
        del model.functions[key]
    for name, overload in sorted(used):
        model.functions[DOMAIN, name, overload] = function(name, overload)
    if used:
        model.graph.opset_imports[DOMAIN] = DOMAIN_VERSION
