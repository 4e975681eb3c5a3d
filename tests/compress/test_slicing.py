"""A sliced model computes what the whole one does with gates of 0; it saves, reads back, and loads elsewhere or says why not.

Masked and sliced: float32 sums in another order, 1e-5 of the scale.
"""

from pathlib import Path

import pytest
import torch
import transformers

from tests.compress.models import tiny
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.compress.batches import collate, encode_texts
from trtbert.compress.gates import gated
from trtbert.compress.layers import encoder_layers
from trtbert.compress.slicing import keep_layers, slice_model
from trtbert.errors import InputError, UnsupportedError

FAMILIES = ("bert", "roberta", "distilbert", "electra", "mpnet", "xlm-roberta", "camembert")
HEADS = [[0, 2], [1]]
NEURONS = [list(range(0, 64)), list(range(8, 80, 2))]
TEXTS = ["The museum opens at nine.", "Heavy rain", "What an excellent film, I loved every minute of it."]


def logits(checkpoint: Checkpoint, model: torch.nn.Module) -> torch.Tensor:
    batch = collate(checkpoint, encode_texts(checkpoint, TEXTS))
    with torch.no_grad():
        result: torch.Tensor = model(**batch.inputs).logits
    return result


def gates_of(kept: list[list[int]], count: int) -> list[torch.Tensor]:
    return [torch.zeros(count).index_fill(0, torch.tensor(indices), 1.0) for indices in kept]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_sliced_model_is_the_masked_one(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model", architecture)
    whole = logits(checkpoint, checkpoint.model)
    with gated(encoder_layers(checkpoint.model), heads=gates_of(HEADS, 3), neurons=gates_of(NEURONS, 80)):
        masked = logits(checkpoint, checkpoint.model)
    with quiet():
        sliced = slice_model(checkpoint.model, checkpoint.task, heads=HEADS, neurons=NEURONS)
    assert [(layer.num_heads, layer.width) for layer in encoder_layers(sliced)] == [(2, 64), (1, 36)]
    torch.testing.assert_close(logits(checkpoint, sliced), masked, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(masked, whole, atol=1e-3), "the mask changed nothing"
    torch.testing.assert_close(logits(checkpoint, checkpoint.model), whole, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_it_saves_and_reads_back(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model", architecture)
    with quiet():
        sliced = checkpoint.with_model(slice_model(checkpoint.model, checkpoint.task, heads=HEADS, neurons=NEURONS))
        again = sliced.with_model(slice_model(sliced.model, checkpoint.task, heads=[[0], [0]]))
        write_checkpoint(again, tmp_path / "sliced")
        read = read_checkpoint(tmp_path / "sliced")
    assert [layer.num_heads for layer in encoder_layers(read.model)] == [1, 1]
    torch.testing.assert_close(logits(read, read.model), logits(again, again.model), rtol=0, atol=0)
    with gated(encoder_layers(checkpoint.model), heads=gates_of([[0], [1]], 3), neurons=gates_of(NEURONS, 80)):
        torch.testing.assert_close(logits(read, read.model), logits(checkpoint, checkpoint.model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
@pytest.mark.parametrize("is_sliced_first", [False, True])
def test_plain_transformers_reads_what_is_even(is_sliced_first: bool, architecture: str, tmp_path: Path) -> None:
    """A layer that is left of layers of several widths as well."""
    checkpoint = tiny(tmp_path / "model", architecture)
    with quiet():
        if is_sliced_first:
            even = keep_layers(slice_model(checkpoint.model, checkpoint.task, neurons=NEURONS), checkpoint.task, [1])
        else:
            even = slice_model(keep_layers(checkpoint.model, checkpoint.task, [1]), checkpoint.task, neurons=[list(range(40))])
        write_checkpoint(checkpoint.with_model(even), tmp_path / "even")
        model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "even")
    torch.testing.assert_close(logits(checkpoint, model.eval()), logits(checkpoint, even), rtol=0, atol=0)


def test_plain_transformers_refuses_what_is_not(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model")
    with quiet():
        write_checkpoint(checkpoint.with_model(slice_model(checkpoint.model, checkpoint.task, heads=HEADS)), tmp_path / "uneven")
        with pytest.raises(RuntimeError, match="mismatch"):
            transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "uneven")


def test_what_is_constant_goes_into_the_next_bias(tmp_path: Path) -> None:
    """A neuron with a row of zeros gives act(bias), a head with rows of zeros in V the bias of V: removing them changes nothing."""
    checkpoint = tiny(tmp_path / "model")
    layer = encoder_layers(checkpoint.model)[0]
    with torch.no_grad():
        layer.up.weight[10:20] = 0
        layer.value.weight[16:32] = 0
    before = logits(checkpoint, checkpoint.model)
    kept = [index for index in range(80) if not 10 <= index < 20]
    with quiet():
        sliced = slice_model(checkpoint.model, checkpoint.task, heads=[[0, 2], [0, 1, 2]], neurons=[kept, list(range(80))])
    torch.testing.assert_close(logits(checkpoint, sliced), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet", "deberta-v2", "albert"])
def test_layers_are_kept_in_order(architecture: str, tmp_path: Path) -> None:
    """A model of layers 0 and 2 has their tensors bit for bit, under the numbers 0 and 1."""
    checkpoint = tiny(tmp_path / "model", architecture, num_hidden_layers=3)
    with quiet():
        kept = keep_layers(checkpoint.model, checkpoint.task, [0, 2])
    assert kept.config.num_hidden_layers == 2
    state, old = kept.state_dict(), checkpoint.model.state_dict()
    for name, tensor in state.items():
        assert torch.equal(tensor, old[name.replace("layer.1.", "layer.2.")] if architecture != "albert" else old[name])


def test_the_whole_model_does_not_share_its_tensors(tmp_path: Path) -> None:
    """Training the smaller model must not change the one that it came from."""
    checkpoint = tiny(tmp_path / "model")
    with quiet():
        models = [slice_model(checkpoint.model, checkpoint.task, heads=HEADS), keep_layers(checkpoint.model, checkpoint.task, [1])]
    whole = {tensor.data_ptr() for tensor in checkpoint.model.state_dict().values()}
    for model in models:
        assert not whole & {tensor.data_ptr() for tensor in model.state_dict().values()}


def test_layers_keep_the_names_of_their_removed_heads(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model", "mpnet")
    with quiet():
        sliced = slice_model(checkpoint.model, checkpoint.task, heads=HEADS)
        last = keep_layers(sliced, checkpoint.task, [1])
    assert last.config.pruned_heads == {0: [0, 2]}
    assert encoder_layers(last)[0].num_heads == 1


@pytest.mark.parametrize("kept", [[[], [0]], [[0, 0], [0]], [[2, 1], [0]], [[3], [0]]])
def test_heads_that_cannot_be_kept(kept: list[list[int]], tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model")
    with pytest.raises(InputError, match="heads of layer 0 one or more of 0 to 2 must be kept, in ascending order"):
        slice_model(checkpoint.model, checkpoint.task, heads=kept)


def test_layers_that_cannot_be_kept(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model")
    with pytest.raises(InputError, match=r"Layers to keep must ascend from 0 to 1, one or more of them, got \[0, 2\]"):
        keep_layers(checkpoint.model, checkpoint.task, [0, 2])
    other = tiny(tmp_path / "modernbert", "modernbert")
    with pytest.raises(UnsupportedError, match="its layers cannot be removed"):
        keep_layers(other.model, other.task, [0])
    with pytest.raises(UnsupportedError, match="'modernbert' cannot be compressed by parts; choose one of"):
        encoder_layers(other.model)
