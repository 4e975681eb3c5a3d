"""Method `replace`: schedules, draws, and that nothing but the successors is trained."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.compress.models import classified, tiny
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.compress.attention import grouped_model
from trtbert.compress.batches import collate, encode_texts
from trtbert.compress.layers import encoder_layers
from trtbert.compress.method import Job
from trtbert.compress.objectives import embeddings
from trtbert.compress.replace import ReplaceOptions, Switch, initial_layers, replace_layers, replaced, replacing_rate
from trtbert.compress.slicing import keep_layers, slice_model
from trtbert.config import TrainingConfig
from trtbert.errors import InputError, UnsupportedError

TRAINING = TrainingConfig(epochs=3, batch_size=8, learning_rate=1e-3)


def logits(checkpoint: Checkpoint, model: torch.nn.Module) -> torch.Tensor:
    batch = collate(checkpoint, encode_texts(checkpoint, ["The museum opens at nine.", "Heavy rain"]))
    device = next(model.parameters()).device  # While it trains that is a GPU, where there is one.
    with torch.no_grad():
        result: torch.Tensor = model(**{name: tensor.to(device) for name, tensor in batch.inputs.items()}).logits
    return result.cpu()


def test_the_rate_grows_in_a_line() -> None:
    """k t + b with t from 1: 0.3 + 0.7 t / 5, then 1."""
    options = ReplaceOptions(base=0.3, share=0.5)
    rates = [replacing_rate(step, 10, options) for step in range(10)]
    assert rates == pytest.approx([0.44, 0.58, 0.72, 0.86, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])


def test_the_rate_is_constant_and_then_one() -> None:
    options = ReplaceOptions(curriculum="constant", base=0.5, share=0.6)
    assert [replacing_rate(step, 5, options) for step in range(5)] == [0.5, 0.5, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(("count", "rate"), [(6, 0.5), (3, 0.3), (2, 0.1)])
def test_modules_are_drawn_as_often_as_the_rate_says(count: int, rate: float) -> None:
    """E = n p, and none as often as (1 - p)^n: 2,000 draws, +- 3 standard errors."""
    torch.manual_seed(0)
    switch, found = Switch(count), list[float]()
    for _ in range(2000):
        switch.draw(rate)
        assert set(switch.shares) <= {0.0, 1.0}
        found.append(sum(switch.shares))
    none = (1 - rate) ** count
    assert abs(sum(found) / 2000 - count * rate) < 3 * (count * rate * (1 - rate) / 2000) ** 0.5
    assert abs(found.count(0.0) / 2000 - none) < 3 * (none * (1 - none) / 2000) ** 0.5


@pytest.mark.parametrize(("init", "expected"), [("every-other", [1, 3, 5]), ("first", [0, 1, 2]), ("last", [3, 4, 5])])
def test_what_successors_start_as(init: str, expected: list[int]) -> None:
    assert initial_layers(6, 2, init) == expected


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet", "roberta", "electra"])
def test_the_ends_of_a_blend(architecture: str, tmp_path: Path) -> None:
    """With a share of 0 the model is the whole one; of 1 it is the one that keeps the successors' layers alone."""
    checkpoint = tiny(tmp_path, architecture, num_hidden_layers=4)
    layers, switch = encoder_layers(checkpoint.model), Switch(2)
    whole = logits(checkpoint, checkpoint.model)
    with quiet():
        kept = logits(checkpoint, keep_layers(checkpoint.model, checkpoint.task, [1, 3]))
    found = {}
    successors = [copy.deepcopy(layers[index].module) for index in (1, 3)]
    with replaced(layers, successors, switch):
        for share in (0.0, 0.5, 1.0):
            switch.blend(share)
            found[share] = logits(checkpoint, checkpoint.model)
    torch.testing.assert_close(found[0.0], whole)
    torch.testing.assert_close(found[1.0], kept)
    assert not torch.allclose(found[0.5], whole, atol=1e-3) and not torch.allclose(found[0.5], kept, atol=1e-3)
    torch.testing.assert_close(logits(checkpoint, checkpoint.model), whole, rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["theseus", "blend"])
@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
def test_only_successors_are_trained(architecture: str, mode: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model", architecture, num_hidden_layers=4)
    before = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}
    with quiet():
        result = replace_layers(Job(checkpoint=checkpoint, labelled=classified(24), training=TRAINING), ReplaceOptions(mode=mode))
        write_checkpoint(result.checkpoint, tmp_path / "smaller")
        read = read_checkpoint(tmp_path / "smaller")
    assert all(torch.equal(tensor, before[name]) for name, tensor in checkpoint.model.state_dict().items())
    smaller = result.checkpoint.model.state_dict()
    outside = [name for name in smaller if ".layer." not in name]
    assert outside and all(torch.equal(smaller[name], before[name]) for name in outside)
    layers = encoder_layers(result.checkpoint.model)
    assert len(layers) == 2
    assert not any(torch.equal(layers[0].up.weight, layer.up.weight) for layer in encoder_layers(checkpoint.model))
    torch.testing.assert_close(logits(read, read.model), logits(read, result.checkpoint.model), rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["theseus", "blend"])
@pytest.mark.parametrize("how", [{"successor": "gqa", "num_kv_heads": 1}, {"successor": "banded", "window": 2}])
@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_every_layer_has_a_successor_with_another_attention(architecture: str, how: dict[str, Any], mode: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model", architecture)
    before = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}
    options = ReplaceOptions(**how, mode=mode)
    with quiet():
        result = replace_layers(Job(checkpoint=checkpoint, labelled=classified(24), training=TRAINING), options)
        write_checkpoint(result.checkpoint, tmp_path / "smaller")
        read = read_checkpoint(tmp_path / "smaller")
    assert all(torch.equal(tensor, before[name]) for name, tensor in checkpoint.model.state_dict().items())
    smaller = result.checkpoint.model.state_dict()
    outside = [name for name in smaller if ".layer." not in name]
    assert outside and all(torch.equal(smaller[name], before[name]) for name in outside)
    layers = encoder_layers(result.checkpoint.model)
    assert [layer.key.out_features for layer in layers] == [16 if options.successor == "gqa" else 48] * 2
    assert not any(torch.equal(new.out.weight, old.out.weight) for new, old in zip(layers, encoder_layers(checkpoint.model), strict=True))
    torch.testing.assert_close(logits(read, read.model), logits(read, result.checkpoint.model), rtol=0, atol=0)


def test_evaluation_is_of_the_successors_alone(tmp_path: Path) -> None:
    """What is scored after the last epoch answers as the model that comes out, though training blends it with its predecessor."""
    checkpoint, found = tiny(tmp_path), list[torch.Tensor]()

    def evaluate(model: torch.nn.Module) -> float:
        found.append(logits(checkpoint, model))
        return float(len(found))  # the last epoch is the best

    job = Job(checkpoint=checkpoint, labelled=classified(24), training=TRAINING, evaluate=evaluate)
    with quiet():
        options = ReplaceOptions(successor="banded", window=2, mode="blend", curriculum="constant", base=0.5, share=1)
        result = replace_layers(job, options)
    assert len(found) == 3
    torch.testing.assert_close(found[-1], logits(checkpoint, result.checkpoint.model))


@pytest.mark.parametrize(("mode", "expected"), [("theseus", "draw"), ("blend", "blend")])
def test_the_mode_says_how_much_successors_compute(mode: Any, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[str, float]]()
    for name in ("draw", "blend"):
        monkeypatch.setattr(Switch, name, lambda _self, rate, name=name: seen.append((name, rate)))
    job = Job(checkpoint=tiny(tmp_path), labelled=classified(24), training=TrainingConfig(max_steps=2, batch_size=12))
    with quiet():
        replace_layers(job, ReplaceOptions(mode=mode, curriculum="constant", base=0.5, share=1))
    assert seen == [(expected, 0.5)] * 2


@pytest.mark.parametrize("init", ["every-other", "first", "last"])
def test_layers_of_unequal_widths_are_replaced(init: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, num_hidden_layers=4)
    with quiet():
        pruned = slice_model(
            checkpoint.model, checkpoint.task, heads=[[0], [0, 1, 2], [1, 2], [0, 2]], neurons=[range(w) for w in (8, 16, 24, 32)]
        )
        job = Job(checkpoint=checkpoint.with_model(pruned), labelled=classified(24), training=TRAINING)
        result = replace_layers(job, ReplaceOptions(init=init))
    expected = {"every-other": [(3, 16), (2, 32)], "first": [(1, 8), (3, 16)], "last": [(2, 24), (2, 32)]}
    assert [(layer.num_heads, layer.width) for layer in encoder_layers(result.checkpoint.model)] == expected[init]


def test_the_same_modules_are_drawn_again() -> None:
    """Draws come from torch's generator, which training seeds for each step."""
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        switch, drawn = Switch(6), list[list[float]]()
        for _ in range(10):
            switch.draw(0.3)
            drawn.append(switch.shares)
        found.append(drawn)
    assert found[0] == found[1] and len({tuple(shares) for shares in found[0]}) > 3


@pytest.mark.parametrize("mode", ["theseus", "blend"])
@pytest.mark.parametrize("is_labelled", [True, False])
def test_a_step_without_successors_changes_nothing(is_labelled: bool, mode: str, tmp_path: Path) -> None:
    """Not by weight decay or momentum either: with a probability of 0 to the end successors stay the layers that they were."""
    checkpoint = tiny(tmp_path, num_hidden_layers=4)
    before = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}
    job = Job(checkpoint=checkpoint, labelled=classified(24 * is_labelled), texts=["Heavy rain"] * 24, training=TRAINING)
    with quiet():
        result = replace_layers(job, ReplaceOptions(mode=mode, curriculum="constant", base=0, share=1, init="first"))
    assert result.facts["steps"] == 9
    assert all(torch.equal(tensor, before[name]) for name, tensor in result.checkpoint.model.state_dict().items())


@pytest.mark.parametrize("options", [ReplaceOptions(), ReplaceOptions(curriculum="constant", base=0.2, share=1)])
def test_a_killed_run_goes_on(options: ReplaceOptions, tmp_path: Path) -> None:
    """With the low base most steps draw no module."""

    class Killed(Exception):
        pass

    def kill(_what: str, done: int, _total: int) -> None:
        if done == 5:
            raise Killed

    training = TRAINING.model_copy(update={"save_every": 2})
    found = []
    for on_step in (None, kill):
        checkpoint = tiny(tmp_path / "model", num_hidden_layers=4)
        job = Job(checkpoint=checkpoint, labelled=classified(24), training=training, state=tmp_path / f"state-{on_step is None}")
        if on_step is not None:
            with pytest.raises(Killed):
                replace_layers(Job(**{**vars(job), "on_step": on_step}), options)
            job = Job(**{**vars(job), "checkpoint": tiny(tmp_path / "model", num_hidden_layers=4)})
        with quiet():
            found.append(replace_layers(job, options).checkpoint.model.state_dict())
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


@pytest.mark.parametrize("options", [{"window": 2}, {"successor": "gqa", "group": 3}, {"successor": "banded", "num_kv_heads": 2}])
def test_an_option_of_another_successor(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="is not for `successor`"):
        ReplaceOptions(**options)


def test_what_cannot_be_replaced(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, num_hidden_layers=3)
    with pytest.raises(InputError, match="The 3 layers do not divide into modules of 2; give a --group that divides 3"):
        replace_layers(Job(checkpoint=checkpoint, labelled=classified(8)), ReplaceOptions())
    with pytest.raises(InputError, match="replace trains on labelled examples of the task"):
        replace_layers(Job(checkpoint=checkpoint), ReplaceOptions(group=3))


@pytest.mark.parametrize("mode", ["theseus", "blend"])
def test_without_labels_the_answers_come_back(mode: str, tmp_path: Path) -> None:
    """Shared keys and values cost much at first, of which training on texts alone recovers more than half."""
    checkpoint = tiny(tmp_path, task="sentence-similarity", num_hidden_layers=3)
    torch.manual_seed(0)
    with torch.no_grad():  # attention of a random model is nearly even, and would cost nothing to replace
        for layer in encoder_layers(checkpoint.model):
            for linear in (layer.query, layer.key, layer.value):
                linear.weight.normal_(std=0.4)
    texts = [example.text for example in classified(40)]
    batch = collate(checkpoint, encode_texts(checkpoint, texts))

    @torch.no_grad()
    def embedded(model: Any) -> torch.Tensor:
        return torch.nn.functional.normalize(embeddings(checkpoint.head, model(**batch.inputs).last_hidden_state, batch.mask), dim=-1)

    expected = embedded(checkpoint.model)
    before = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}
    lost = 1 - (embedded(grouped_model(checkpoint.model, checkpoint.task, 1)) * expected).sum(-1).mean()
    training = TrainingConfig(epochs=30, batch_size=16, learning_rate=1e-2)
    with quiet():
        job = Job(checkpoint=checkpoint, texts=texts, training=training)
        found = replace_layers(job, ReplaceOptions(successor="gqa", mode=mode)).checkpoint
    assert lost > 0.02
    assert 1 - (embedded(found.model) * expected).sum(-1).mean() < 0.5 * lost
    assert all(torch.equal(tensor, before[name]) for name, tensor in checkpoint.model.state_dict().items())


def test_layers_that_are_one(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="--method depth"):
        replace_layers(Job(checkpoint=tiny(tmp_path, "albert"), labelled=classified(8)), ReplaceOptions())
