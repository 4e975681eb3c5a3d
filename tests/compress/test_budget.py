"""Method `budget`: the budget is kept, and scaling never makes a sub-layer's output worse."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.compress.models import classified, tiny
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.compress import budget
from trtbert.compress import rescale as rescale_module
from trtbert.compress.batches import Batch, collate, encode_examples, encode_texts
from trtbert.compress.budget import BudgetOptions, prune_to_budget
from trtbert.compress.gates import gated
from trtbert.compress.layers import encoder_layers
from trtbert.compress.macs import count_macs
from trtbert.compress.method import Job
from trtbert.compress.rescale import rescale, solve
from trtbert.compress.slicing import slice_model
from trtbert.errors import InputError, UnsupportedError

LABELLED = classified(20)


def logits(checkpoint: Checkpoint, model: torch.nn.Module) -> torch.Tensor:
    batch = collate(checkpoint, encode_texts(checkpoint, ["The museum opens at nine.", "Heavy rain"]))
    with torch.no_grad():
        result: torch.Tensor = model(**batch.inputs).logits
    return result


@pytest.mark.parametrize("target", [0.4, 0.6, 0.9])
@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet"])
def test_the_budget_is_kept(architecture: str, target: float, tmp_path: Path) -> None:
    """Not over it, and no further below than a head or a group of neurons."""
    checkpoint = tiny(tmp_path / "model", architecture, num_hidden_layers=3)
    options = BudgetOptions(target_macs=target, length=20, multiple_of=8)
    before = count_macs(checkpoint.model, length=20)
    with quiet():
        result = prune_to_budget(Job(checkpoint=checkpoint, labelled=LABELLED), options)
        write_checkpoint(result.checkpoint, tmp_path / "pruned")
        read = read_checkpoint(tmp_path / "pruned")
    share = count_macs(result.checkpoint.model, length=20) / before
    piece = (20 * 4 * 16 * 48 + 2 * 20 * 20 * 16) / before
    assert target - piece < share <= target and share == pytest.approx(result.facts["share"], abs=1e-4)
    assert all(width % 8 == 0 for width in result.facts["widths"])
    torch.testing.assert_close(logits(read, read.model), logits(read, result.checkpoint.model), rtol=0, atol=0)


def test_scales_by_least_squares() -> None:
    """Where columns explain b exactly, the scales are found; damping draws to 1 by its weight."""
    torch.manual_seed(0)
    columns = torch.randn(200, 4, dtype=torch.float64)
    wanted = columns @ torch.tensor([0.5, 2.0, 0.0, 1.0], dtype=torch.float64)
    scales = solve(columns.T @ columns, columns.T @ wanted, torch.tensor([1.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(scales, torch.tensor([0.5, 2.0, 0.0, 1.0]), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet"])
def test_scaling_never_makes_it_worse(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, architecture)
    items = encode_examples(checkpoint, LABELLED)
    heads = [torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 1.0])]
    neurons = [(torch.arange(80) % 2).float(), (torch.arange(80) % 4 > 0).float()]
    errors = rescale(checkpoint, items, heads, neurons, lambda *_: None)
    assert all(after <= before for before, after in zip(errors["error_before"], errors["error_after"], strict=True))
    assert sum(errors["error_after"]) < sum(errors["error_before"])


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet"])
def test_scales_are_those_of_plain_least_squares(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first layer's heads: a column for what each head adds to the output of each token."""
    monkeypatch.setattr(rescale_module, "_DAMPING", 0.0)
    checkpoint = tiny(tmp_path, architecture)
    items = encode_examples(checkpoint, LABELLED)
    out, kept = encoder_layers(checkpoint.model)[0].out, [0, 2]
    contexts: list[torch.Tensor] = []
    handle = out.register_forward_pre_hook(lambda _module, inputs: contexts.append(inputs[0][0]))
    with torch.no_grad():
        for item in items:
            checkpoint.model(**collate(checkpoint, [item]).inputs)
    handle.remove()
    context_TX, weight_DX = torch.cat(contexts).double(), out.weight.detach().clone()
    parts = [(context_TX[:, head : head + 16] @ weight_DX[:, head : head + 16].double().T).flatten() for head in (0, 16, 32)]
    scales = torch.linalg.lstsq(torch.stack([parts[head] for head in kept], 1), sum(parts)).solution.float()
    rescale(checkpoint, items, [torch.tensor([1.0, 0.0, 1.0]), torch.ones(3)], [torch.ones(80)] * 2, lambda *_: None)
    expected = torch.cat([scales[0].expand(16), torch.zeros(16), scales[1].expand(16)]) * weight_DX
    torch.testing.assert_close(out.weight.detach(), expected, rtol=1e-3, atol=1e-5)


def test_scales_leave_no_error_that_they_could_explain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Least squares, of every sub-layer and with what reaches it from those before: what is left, summed up to where the LayerNorm
    begins, is orthogonal to what each gate that stays adds.
    """
    monkeypatch.setattr(rescale_module, "_DAMPING", 0.0)
    checkpoint = tiny(tmp_path)
    items, whole = encode_examples(checkpoint, LABELLED), copy.deepcopy(checkpoint.model)
    heads, neurons = [torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 1.0])], [(torch.arange(80) % 4 > 0).float()] * 2
    rescale(checkpoint, items, heads, neurons, lambda *_: None)
    batch = collate(checkpoint, items)
    (ours, inputs), (theirs, _) = sums_of_sub_layers(checkpoint.model, batch), sums_of_sub_layers(whole, batch)
    linears = [linear for layer in encoder_layers(checkpoint.model) for linear in (layer.out, layer.down)]
    masks = [mask.repeat_interleave(16 if len(mask) == 3 else 1) for pair in zip(heads, neurons, strict=True) for mask in pair]
    for index, (linear, mask) in enumerate(zip(linears, masks, strict=True)):
        added_XT_D = inputs[index].T[:, :, None] * linear.weight.T[:, None]
        size = 16 if index % 2 == 0 else 1
        explained, possible = (
            torch.einsum("xtd,td->x", added_XT_D, part).view(-1, size).sum(1)[mask.view(-1, size)[:, 0] > 0]
            for part in (ours[index] - theirs[index], theirs[index])
        )
        assert explained.abs().max() < 1e-3 * possible.abs().max()
        assert (ours[index] - theirs[index]).norm() > 1e-2 * theirs[index].norm()


@torch.no_grad()
def sums_of_sub_layers(model: Any, batch: Batch) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Of each sub-layer, in order and without padding: [T,D] what its LayerNorm is given, [T,X] what its last linear module is."""
    sums, inputs = list[torch.Tensor](), list[torch.Tensor]()

    def keep(found: list[torch.Tensor]) -> Any:
        return lambda _module, given: found.append(given[0][batch.mask != 0].double())

    handles = []
    for layer in model.bert.encoder.layer:
        for output in (layer.attention.output, layer.output):
            handles.append(output.LayerNorm.register_forward_pre_hook(keep(sums)))
            handles.append(output.dense.register_forward_pre_hook(keep(inputs)))
    model(**batch.inputs)
    for handle in handles:
        handle.remove()
    return sums, inputs


def test_the_search_takes_the_mean_of_the_squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head whose gradients cancel over the examples is not one that does not matter: those of the other layer go."""
    of_heads = [torch.tensor([[1.0] * 3, [-1.0] * 3]), torch.full((2, 3), 0.1)]
    monkeypatch.setattr(budget, "gradients", lambda *_, **__: (of_heads, [torch.full((2, 80), 9.0)] * 2))
    options = BudgetOptions(target_macs=0.87, length=20, multiple_of=80, rescale=False)
    with quiet():
        result = prune_to_budget(Job(checkpoint=tiny(tmp_path), labelled=LABELLED), options)
    assert result.facts["heads"] == [3, 1]


def test_nothing_gone_needs_no_scales(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    before = logits(checkpoint, checkpoint.model)
    errors = rescale(checkpoint, encode_examples(checkpoint, LABELLED), [torch.ones(3)] * 2, [torch.ones(80)] * 2, lambda *_: None)
    assert max(errors["error_before"]) < 1e-9
    torch.testing.assert_close(logits(checkpoint, checkpoint.model), before, rtol=1e-4, atol=1e-4)


def test_the_scaled_model_is_the_sliced_one(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    heads, neurons = [torch.tensor([1.0, 0.0, 1.0]), torch.ones(3)], [(torch.arange(80) % 2).float(), torch.ones(80)]
    rescale(checkpoint, encode_examples(checkpoint, LABELLED), heads, neurons, lambda *_: None)
    with gated(encoder_layers(checkpoint.model), heads=heads, neurons=neurons):
        expected = logits(checkpoint, checkpoint.model)
    kept = [[mask.nonzero().flatten().tolist() for mask in masks] for masks in (heads, neurons)]
    with quiet():
        sliced = slice_model(checkpoint.model, checkpoint.task, heads=kept[0], neurons=kept[1])
    torch.testing.assert_close(logits(checkpoint, sliced), expected, rtol=1e-5, atol=1e-5)


def test_a_budget_of_time(tmp_path: Path) -> None:
    """Of a model whose time is nearly all in the FFN, so that noise cannot put the target out of reach."""
    checkpoint = tiny(tmp_path, intermediate_size=2048)
    with quiet():
        result = prune_to_budget(Job(checkpoint=checkpoint, labelled=LABELLED), BudgetOptions(target_latency=0.9, rescale=False))
    assert result.facts["share"] <= 0.9 and sum(result.facts["widths"]) < 2 * 2048


def test_albert_is_pruned_but_not_scaled(tmp_path: Path) -> None:
    """Its layer counts as often as it is used."""
    job = Job(checkpoint=tiny(tmp_path, "albert"), labelled=LABELLED)
    before = count_macs(job.checkpoint.model, length=20)
    options = BudgetOptions(target_macs=0.7, length=20, multiple_of=8)
    with pytest.raises(UnsupportedError, match=r"albert has one layer that it uses again and again, .*; give --no-rescale"):
        prune_to_budget(job, options)
    with quiet():
        result = prune_to_budget(job, options.model_copy(update={"rescale": False}))
    piece = 2 * (20 * 4 * 16 * 48 + 2 * 20 * 20 * 16) / before
    assert 0.7 - piece < count_macs(result.checkpoint.model, length=20) / before <= 0.7


def test_budgets_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"with one head and 64 neurons in each layer 0\.\d+ remains. Raise it, or remove layers first"):
        prune_to_budget(Job(checkpoint=tiny(tmp_path), labelled=LABELLED), BudgetOptions(target_macs=0.05, multiple_of=64))
    for options in ({}, {"target_macs": 0.5, "target_latency": 0.5}, {"target_macs": 0.0}, {"target_macs": 1.0}):
        with pytest.raises(ValidationError):
            BudgetOptions(**options)
