"""Method `magnitude`: how many weights go, which, and that they stay gone."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tests.compress.models import classified, tiny
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import read_checkpoint, write_checkpoint
from trtbert.compress.batches import collate, encode_texts
from trtbert.compress.layers import encoder_layers
from trtbert.compress.magnitude import MagnitudeOptions, is_2_4, mask_2_4, prune_magnitude, smallest_mask
from trtbert.compress.method import Job
from trtbert.config import TrainingConfig
from trtbert.errors import InputError


def matrices(model: object) -> list[torch.Tensor]:
    layers = encoder_layers(model)
    return [linear.weight for la in layers for linear in (la.query, la.key, la.value, la.out, la.up, la.down)]


@pytest.mark.parametrize("sparsity", [0.001, 0.3, 0.5, 0.77, 0.999])
def test_as_many_weights_go_as_asked(sparsity: float) -> None:
    weight = torch.randn(31, 33, generator=torch.Generator().manual_seed(0))
    mask = smallest_mask(weight, sparsity)
    assert int((~mask).sum()) == round(sparsity * 31 * 33)
    assert weight[~mask].abs().max() <= weight[mask].abs().min()


def test_equal_weights_go_one_by_one() -> None:
    assert smallest_mask(torch.ones(4, 4), 0.5).flatten().tolist() == [False] * 8 + [True] * 8
    assert mask_2_4(torch.ones(1, 4)).tolist() == [[True, True, False, False]]


def test_two_of_four() -> None:
    weight = torch.tensor([[1.0, -3.0, 2.0, 0.5, 0.0, 0.0, 0.1, -0.2]])
    assert mask_2_4(weight).tolist() == [[False, True, True, False, False, False, True, True]]
    assert is_2_4(weight * mask_2_4(weight)) and is_2_4(torch.zeros(2, 8))
    assert not is_2_4(weight)
    assert not is_2_4(torch.zeros(2, 6)), "no whole groups"
    assert not is_2_4(torch.tensor([[1.0, 0, 0, 1, 1, 1, 1, 0]])), "half of the row, but three in one group"
    assert not is_2_4(torch.tensor([[1.0, 0, 1, 0], [1, 0, 1, 0], [1, 0, 1, 0], [1, 0, 1, 0]]).T), "columns are not rows"


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet", "albert"])
def test_every_matrix_has_its_zeros(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model", architecture)
    others = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items() if "layer" not in name}
    result = prune_magnitude(Job(checkpoint=checkpoint), MagnitudeOptions(sparsity=0.4))
    for weight in matrices(result.checkpoint.model):
        assert int((weight == 0).sum()) == round(0.4 * weight.numel())
    state = result.checkpoint.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in others.items()), "embeddings and heads are left alone"
    assert result.facts["sparsity"] == pytest.approx(0.4, abs=1e-3)
    assert "no speed-up expected" in result.notes[0]


def test_two_of_four_in_every_matrix_and_it_can_be_read(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model")
    result = prune_magnitude(Job(checkpoint=checkpoint), MagnitudeOptions(pattern="2:4"))
    assert result.facts["is_2_4"]
    assert len(matrices(result.checkpoint.model)) == 12 == result.facts["matrices"]
    assert all(is_2_4(weight) and int((weight == 0).sum()) * 2 == weight.numel() for weight in matrices(result.checkpoint.model))
    assert result.facts["sparsity"] == 0.5 and "Ampere" in result.notes[0]
    with quiet():
        write_checkpoint(result.checkpoint, tmp_path / "pruned")
        read = read_checkpoint(tmp_path / "pruned")
    assert all(map(is_2_4, matrices(read.model)))
    batch = collate(read, encode_texts(read, ["red", "the blue cat"]))
    assert torch.equal(read.model(**batch.inputs).logits, result.checkpoint.model(**batch.inputs).logits)


def test_embeddings_too(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    result = prune_magnitude(Job(checkpoint=checkpoint), MagnitudeOptions(sparsity=0.3, embeddings=True))
    words = result.checkpoint.model.get_input_embeddings().weight
    assert int((words == 0).sum()) == round(0.3 * words.numel()) and result.facts["matrices"] == 15


def test_zeros_survive_training(tmp_path: Path) -> None:
    """20 steps of AdamW with decay: what was zero is zero, and what was not has moved."""
    checkpoint = tiny(tmp_path)
    before = prune_magnitude(Job(checkpoint=checkpoint), MagnitudeOptions(sparsity=0.5)).checkpoint
    masks = [weight != 0 for weight in matrices(before.model)]
    values = [weight.detach().clone() for weight in matrices(before.model)]
    training = TrainingConfig(max_steps=20, epochs=20, batch_size=8, learning_rate=1e-3)
    job = Job(checkpoint=tiny(tmp_path), labelled=classified(24), training=training)
    with quiet():
        result = prune_magnitude(job, MagnitudeOptions(sparsity=0.5, finetune=True))
    for weight, mask, value in zip(matrices(result.checkpoint.model), masks, values, strict=True):
        assert torch.equal(weight != 0, mask)
        assert not torch.equal(weight, value)


def test_what_does_not_fit(tmp_path: Path) -> None:
    for options in ({}, {"pattern": "2:4", "sparsity": 0.5}):
        with pytest.raises(ValidationError, match="give `sparsity`, or `pattern` 2:4, which is always half of the weights"):
            MagnitudeOptions(**options)
    with pytest.raises(ValidationError, match="embeddings are looked up; leave `embeddings` out"):
        MagnitudeOptions(pattern="2:4", embeddings=True)
    for sparsity in (0, 1):
        with pytest.raises(ValidationError, match="sparsity"):
            MagnitudeOptions(sparsity=sparsity)
    with pytest.raises(InputError, match="sparsity 1e-09 of the 3840 weights of the largest matrix is less than one, so nothing"):
        prune_magnitude(Job(checkpoint=tiny(tmp_path / "model")), MagnitudeOptions(sparsity=1e-9))
    checkpoint = tiny(tmp_path, intermediate_size=81)
    with pytest.raises(InputError, match=r"2:4 needs rows of a multiple of four weights, and .*output.dense.weight has rows of 81"):
        prune_magnitude(Job(checkpoint=checkpoint), MagnitudeOptions(pattern="2:4"))
    with pytest.raises(InputError, match="finetune trains the model, and there are no labelled examples"):
        prune_magnitude(Job(checkpoint=checkpoint), MagnitudeOptions(sparsity=0.5, finetune=True))
