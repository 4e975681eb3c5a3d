"""Every layer of every family fuses in files that TorchScript wrote with transformers 4; what cannot fuse is named."""

import json
from collections.abc import Callable

import onnx_ir as ir
import pytest

from tests.fixtures.make_foreign import FOREIGN
from tests.rewrite.foreign import Facts, Imported, assert_answers_like_the_file, assert_every_layer_is_fused, import_and_rewrite
from trtbert.errors import FusionError
from trtbert.rewrite import rewrite

FACTS: dict[str, Facts] = json.loads((FOREIGN / "files.json").read_text())
UNFUSED = ("deberta-v2-eager-opset14.onnx", "modernbert-sdpa-opset17.onnx")
BERT = "bert-sdpa-opset14.onnx"
Import = Callable[[str], Imported]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Import:
    made: dict[str, Imported] = {}

    def get(name: str) -> Imported:
        if name not in made:
            made[name] = import_and_rewrite(FOREIGN / name, FACTS[name], tmp_path_factory.mktemp("tokenizer"))
        return made[name]

    return get


@pytest.mark.parametrize("name", sorted(FACTS.keys() - set(UNFUSED)))
def test_every_layer_is_fused(name: str, imported: Import) -> None:
    assert_every_layer_is_fused(imported(name))
    assert_answers_like_the_file(imported(name))


def test_layers_that_share_their_weights_share_the_merged_one(imported: Import) -> None:
    albert, bert = imported("albert-eager-opset16.onnx"), imported(BERT)
    for model, num_weights in ((albert, 1), (bert, 2)):
        merged = [name for name in model.rewritten.model.graph.initializers if name.count("+") == 2]
        assert len(merged) == 2 * num_weights, "one weight and one bias for each layer of its own"
        matmuls = [node for node in model.rewritten.model.graph if node.op_type == "MatMul" and str(node.name).endswith(".qkv")]
        assert len(matmuls) == 2
        assert len({node.inputs[1] for node in matmuls}) == num_weights


def test_deberta_names_what_stays_unfused(imported: Import) -> None:
    deberta = imported("deberta-v2-eager-opset14.onnx")
    assert deberta.num_fused == {"FusedSkipLayerNorm": 2, "FusedBiasGelu": 1}
    reasons = {miss.rule: miss.reason for miss in deberta.rewritten.unfused}
    assert reasons.keys() == {"FusedQkvAttention", "FusedEmbedLayerNorm"}
    assert "is neither the padding mask nor a [1,N,S,S] position bias" in reasons["FusedQkvAttention"]
    assert "it has 0 look-ups of positions" in reasons["FusedEmbedLayerNorm"]
    assert_answers_like_the_file(deberta)


def test_modernbert_names_what_stays_unfused(imported: Import) -> None:
    modernbert = imported("modernbert-sdpa-opset17.onnx")
    assert modernbert.num_fused["FusedQkvAttention"] == modernbert.num_fused["FusedEmbedLayerNorm"] == 0
    reasons = {miss.rule: miss.reason for miss in modernbert.rewritten.unfused}
    assert reasons.keys() == {"FusedQkvAttention", "FusedEmbedLayerNorm", "FusedSkipLayerNorm", "FusedBiasGelu"}
    assert "stands between the query's projection and the scores" in reasons["FusedQkvAttention"]
    assert "a LayerNorm before the sub-layer" in reasons["FusedSkipLayerNorm"]
    assert_answers_like_the_file(modernbert)


def _with_a_late_mask(model: ir.Model) -> ir.Model:
    """The weights of the second layer are doubled after the softmax."""
    model = model.clone()
    softmax = [node for node in model.graph if node.op_type == "Softmax"][1]
    weights = softmax.outputs[0]
    doubled = ir.node("Add", [weights, weights], name="late_mask")
    model.graph.insert_after(softmax, doubled)
    for node, index in list(weights.uses()):
        if node is not doubled:
            node.replace_input_with(index, doubled.outputs[0])
    return model


def test_a_layer_that_does_not_fuse_is_an_error_that_names_it(imported: Import) -> None:
    broken = _with_a_late_mask(imported(BERT).source.model)
    with pytest.raises(FusionError) as caught:
        rewrite(broken, architecture="bert", num_layers=2)
    message = str(caught.value)
    assert "FusedQkvAttention: fused 1 of 2; node '/encoder/layer.1/attention/self/Softmax': " in message
    assert "changes or reads the weights after the softmax (a mask added after it?)" in message
    assert "--allow-unfused" in message and caught.value.exit_code == 3
    assert "FusedSkipLayerNorm" not in message and "FusedEmbedLayerNorm" not in message


def test_allow_unfused_goes_on_and_records_it(imported: Import) -> None:
    broken = _with_a_late_mask(imported(BERT).source.model)
    rewritten = rewrite(broken, architecture="bert", num_layers=2, allow_unfused=True)
    assert rewritten.fusions == imported(BERT).rewritten.fusions | {"FusedQkvAttention": 1}
    (miss,) = rewritten.unfused
    assert (miss.rule, miss.node) == ("FusedQkvAttention", "/encoder/layer.1/attention/self/Softmax")


def test_a_layer_that_is_not_there_is_an_error(imported: Import) -> None:
    with pytest.raises(FusionError, match="FusedQkvAttention: fused 2 of 3; nothing in the graph looks like it"):
        rewrite(imported(BERT).source.model, architecture="bert", num_layers=3)


def test_the_model_that_is_given_stays_as_it_was(imported: Import) -> None:
    model = imported(BERT).source.model
    before = [(node.op_type, node.name) for node in model.graph]
    rewrite(model, architecture="bert", num_layers=2)
    assert [(node.op_type, node.name) for node in model.graph] == before
