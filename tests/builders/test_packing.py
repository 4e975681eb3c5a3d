"""A packed encoder computes no padding, and answers what the padded one answers wherever there is a token."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from tests.builders.fused import NUM_WORDS, Encoder, fused_encoder
from tests.builders.onnx_text import Feeds, ops, parse, run
from tests.fixtures.make_foreign import FOREIGN
from tests.numerics import assert_close
from tests.rewrite.foreign import import_and_rewrite
from trtbert.builders.packing import check_packable, pack
from trtbert.builders.plugins import lower_for_plugins, with_bodies
from trtbert.errors import UnsupportedError
from trtbert.package import TokenizerFacts

FACTS = json.loads((FOREIGN / "files.json").read_text())
PACKED = sorted(name for name in FACTS if not name.startswith(("mpnet", "deberta", "modernbert")))
LENGTH = 11


def masks() -> dict[str, npt.NDArray[np.int32]]:
    """[B,S] of each kind of padding."""
    positions = np.arange(LENGTH)
    right = (positions < np.array([[LENGTH], [4], [1]])).astype(np.int32)
    holes = np.random.default_rng(0).integers(0, 2, (3, LENGTH), dtype=np.int32)
    holes[:, 0] = 1
    return {
        "no padding": np.ones((2, LENGTH), np.int32),
        "right": right,
        "left": right[:, ::-1].copy(),
        "holes": holes,
        "a row of padding": np.array([[1] * LENGTH, [0] * LENGTH, holes[0]], np.int32),
        "one token": np.ones((1, 1), np.int32),
    }


def feeds(mask: npt.NDArray[np.int32], model: ir.Model, vocabulary: int) -> Feeds:
    rng = np.random.default_rng(1)
    ids = {
        "input_ids": rng.integers(3, vocabulary, mask.shape, dtype=np.int32),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, mask.shape, dtype=np.int32),
    }
    return {str(value.name): ids[str(value.name)] for value in model.graph.inputs}


def assert_same_where_there_are_tokens(packed: ir.Model, padded: ir.Model, given: Feeds, dtype: str = "float32") -> None:
    is_kept = given["attention_mask"] != 0
    for actual, expected in zip(run(packed, given), run(padded, given), strict=True):
        assert actual.shape == expected.shape and actual.dtype == expected.dtype and np.isfinite(actual).all()
        rows = is_kept if actual.shape[:2] == is_kept.shape else is_kept.any(1)
        assert_close(actual[rows], expected[rows], dtype)


@pytest.mark.parametrize("kind", masks())
@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT, ir.DataType.FLOAT16])
def test_an_encoder_with_unequal_layers(kind: str, dtype: ir.DataType) -> None:
    model = fused_encoder(Encoder(dtype=dtype))
    packed = pack(model)
    counts = Counter(ops(packed.model))
    assert counts["FusedPackedQkvAttention"] == 2 and counts["FusedQkvAttention"] == 0
    assert counts["NonZero"] == counts["ScatterND"] == 1 and counts["GatherND"] == 3
    assert packed.takes_left_padding
    rows = [v for node in packed.model.graph for v in node.outputs if node.op_type in ("MatMul", "FusedSkipLayerNorm", "FusedBiasGelu")]
    assert len(rows) == 8 + 4 + 2 and all(v.shape is not None and len(v.shape) == 2 for v in rows)
    assert [(str(v.name), v.shape) for v in packed.model.graph.outputs] == [(str(v.name), v.shape) for v in model.graph.outputs]
    assert Counter(ops(model))["FusedQkvAttention"] == 2, "packing changed the model it was given"
    given = feeds(masks()[kind], model, NUM_WORDS)
    assert_same_where_there_are_tokens(packed.model, model, given, "float32" if dtype == ir.DataType.FLOAT else "float16")
    hidden = run(packed.model, given)[0]
    assert (hidden[given["attention_mask"] == 0] == 0).all()


def test_a_batch_of_padding_alone() -> None:
    model = fused_encoder(Encoder())
    (hidden,) = run(pack(model).model, feeds(np.zeros((2, 5), np.int32), model, NUM_WORDS))
    assert hidden.shape == (2, 5, 48) and not hidden.any()


@pytest.mark.parametrize("name", PACKED)
def test_every_family(name: str, tmp_path: Path) -> None:
    imported = import_and_rewrite(FOREIGN / name, FACTS[name], tmp_path)
    model, num_layers = imported.rewritten.model, imported.num_fused["FusedQkvAttention"]
    packed = pack(model)
    lowered, records = lower_for_plugins(packed.model, "sm80")
    assert Counter(ops(lowered))["FusedPackedQkvAttention"] == num_layers == 2
    assert {record.lowering for record in records} == {"plugin"}
    assert packed.takes_left_padding == ("text-classification" not in name)
    for kind, mask in masks().items():
        if packed.takes_left_padding or kind != "left":
            given = feeds(mask, model, imported.source.facts.tokenizer.vocab_size)
            assert_same_where_there_are_tokens(with_bodies(lowered), model, given)


HEAD = """
g (int32[b,s] input_ids, int32[b,s] attention_mask, int32[b,s] position_ids, float[9,8] word, float[9,8] position, float[8] gamma,
   float[8] beta, float[8,48] w, float[16,8] o) => ({outputs})
<float[b,s,8] h, float[b,s,48] qkv, float[b,s,16] c, float[b,s,8] y, float scale = {{0.05}}, int8 zero = {{0}}, int64 first = {{0}},
 int64[1] one = {{1}}, int64[1] none = {{0}}, float[1,1,8] third = {{1, 2, 3, 4, 5, 6, 7, 8}} {more}>
{{ h = trtbert.FusedEmbedLayerNorm <epsilon = 1e-5> (input_ids, position_ids, word, position, gamma, beta)
   qkv = MatMul (h, w)
   c = trtbert.FusedQkvAttention <num_heads = 2, head_size = 8, scale = 0.3> (qkv, attention_mask)
   o_ = MatMul (c, o)
   y = trtbert.FusedSkipLayerNorm <epsilon = 1e-5> (o_, h, gamma, beta)
   {head} }}
"""


def with_head(head: str, outputs: str = "float[b,s,8] z", more: str = "") -> ir.Model:
    return parse(HEAD.format(head=head, outputs=outputs, more=", float[b,s,8] o_" + more))


def given_to(model: ir.Model, kind: str) -> Feeds:
    rng, mask = np.random.default_rng(2), masks()[kind]
    sizes = {str(v.name): [n if isinstance(n, int) else 0 for n in v.shape or ()] for v in model.graph.inputs}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in sizes.items() if 0 not in shape}
    ids = {name: rng.integers(0, 9, mask.shape, dtype=np.int32) for name in ("input_ids", "position_ids")}
    return {**weights, **ids, "attention_mask": mask}


HEADS = {
    "elementwise": ("a = Mul (y, gamma) b = Tanh (a) z = Add (b, y)", True),
    "LayerNormalization": ("z = LayerNormalization <axis = -1> (y, gamma, beta)", True),
    "Q and DQ": ("q = QuantizeLinear (y, scale, zero) z = DequantizeLinear (q, scale, zero)", True),
    "a sum with all rows": ("z = Add (y, third)", False),
    "Softmax over the tokens": ("z = Softmax <axis = 1> (y)", False),
    "another axis": ("z = LayerNormalization <axis = 1> (y, y, y)", False),
    "itself transposed": ("t = Transpose <perm = [0, 2, 1]> (y) p = MatMul (t, y) z = MatMul (y, p)", False),
}


@pytest.mark.parametrize("name", HEADS)
def test_what_is_computed_row_by_row_stays_packed(name: str) -> None:
    head, is_packed = HEADS[name]
    values = {"a": "float[b,s,8] a", "b": "float[b,s,8] b", "q": "int8[b,s,8] q", "t": "float[b,8,s] t", "p": "float[b,8,8] p"}
    model = with_head(head, more="".join(f", {text}" for key, text in values.items() if f"{key} = " in head))
    packed = pack(model).model
    names = ops(packed)
    assert names.count("ScatterND") == 1
    assert (names[-1] == "ScatterND") == is_packed
    if name in ("a sum with all rows", *(n for n, (_, row_wise) in HEADS.items() if row_wise)):
        assert_same_where_there_are_tokens(packed, model, given_to(model, "holes"))


@pytest.mark.parametrize(
    ("head", "takes_left_padding"),
    [
        ("z = Gather <axis = 1> (y, first)", False),
        ("s_ = Slice (y, none, one, one) z = Squeeze (s_, one)", False),
        ("z = Gather <axis = 1> (y, chosen)", True),
        ("z = ReduceMean <keepdims = 0> (y, one)", True),
    ],
)
def test_a_head_that_reads_the_first_position(head: str, takes_left_padding: bool) -> None:
    more = ", float[b,1,8] s_" if "s_" in head else ""
    graph = HEAD.format(head=head, outputs="float[b,8] z", more=f", float[b,s,8] o_{more}")
    model = parse(graph.replace("float[16,8] o)", "float[16,8] o, int64 chosen)"))
    packed = pack(model)
    assert packed.takes_left_padding == takes_left_padding
    if not takes_left_padding:
        given = given_to(model, "right") | {"chosen": np.array(0)}
        assert_same_where_there_are_tokens(packed.model, model, given)


def test_a_value_in_the_middle_that_is_an_output() -> None:
    model = with_head("z = Identity (y)", "float[b,s,8] h, float[b,s,8] z")
    packed = pack(model).model
    assert [value.name for value in packed.graph.outputs] == ["h", "z"] and ops(packed).count("ScatterND") == 2
    assert_same_where_there_are_tokens(packed, model, given_to(model, "left"))


def test_a_mask_that_is_made_after_the_embedding() -> None:
    model = parse(
        HEAD.replace("(qkv, attention_mask)", "(qkv, mask)")
        .replace("c = trt", "mask = Cast <to = 7> (attention_mask) c = trt")
        .format(head="z = Identity (y)", outputs="float[b,s,8] z", more=", float[b,s,8] o_, int64[b,s] mask")
    )
    packed = pack(model).model
    assert ops(packed).count("FusedPackedQkvAttention") == 1
    assert_same_where_there_are_tokens(packed, model, given_to(model, "holes"))


def test_models_that_cannot_be_packed() -> None:
    with pytest.raises(UnsupportedError, match=r"--packed: attention 'FusedQkvAttention_\d+' has a relative-position bias"):
        pack(fused_encoder(Encoder(heads=(2, 2), has_relative_bias=True)))
    unfused = parse("g (int32[b,s] input_ids, float[9,8] word) => (float[b,s,8] y) { y = Gather (word, input_ids) }")
    with pytest.raises(UnsupportedError, match="--packed needs the embeddings fused, and this model has 0 FusedEmbedLayerNorm"):
        pack(unfused)
    with pytest.raises(UnsupportedError, match="needs fused attention with one padding mask for all layers"):
        pack(with_head("d = trtbert.FusedQkvAttention <num_heads = 2, head_size = 8, scale = 0.3> (qkv, position_ids) z = MatMul (d, o)"))


def test_what_is_refused_before_the_work() -> None:
    tokenizer = TokenizerFacts(pad_token_id=0, vocab_size=9)
    check_packable(fused_encoder(Encoder()), "sm75", tokenizer)
    with pytest.raises(UnsupportedError, match=r"no plugin takes attention .*: its heads have 20 columns"):
        check_packable(fused_encoder(Encoder(head_size=20)), "sm75", tokenizer)
    reads_first = with_head("z = Gather <axis = 1> (y, first)", "float[b,8] z")
    check_packable(reads_first, "sm75", tokenizer)
    with pytest.raises(UnsupportedError, match="the head reads the first position of every text, and the tokenizer puts the padding there"):
        check_packable(reads_first, "sm75", tokenizer.model_copy(update={"padding_side": "left"}))
