"""Importance: the estimators that must agree, a batch that must not matter, and what has no labels."""

from pathlib import Path

import pytest
import torch

from tests.compress.models import classified, tagged, tiny
from trtbert.checkpoint.read import Checkpoint
from trtbert.compress import importance as importance_module
from trtbert.compress.batches import Item, collate, encode_examples, encode_texts
from trtbert.compress.importance import gradients, importance
from trtbert.compress.layers import encoder_layers
from trtbert.compress.objectives import task_losses
from trtbert.data import Example
from trtbert.tasks import TASKS, Task

TEXTS = ["The museum opens at nine.", "Heavy rain", "What an excellent film, I loved every minute of it.", "red", "green cat"]


def three_estimates(checkpoint: Checkpoint, items: list[Item]) -> tuple[torch.Tensor, torch.Tensor]:
    """[layers, N] each, one example at a time: |context . dL/d context| and |Wo . dL/d Wo| of the columns of each head."""
    layers = encoder_layers(checkpoint.model)
    contexts: list[torch.Tensor] = []
    handles = [layer.out.register_forward_pre_hook(lambda _m, inputs: contexts.append(inputs[0])) for layer in layers]
    totals = torch.zeros(2, len(layers), layers[0].num_heads)
    for item in items:
        contexts.clear()
        loss = task_losses(checkpoint, collate(checkpoint, [item])).sum()
        gradients = torch.autograd.grad(loss, [*contexts, *(layer.out.weight for layer in layers)])
        for index, layer in enumerate(layers):
            context, weight = contexts[index] * gradients[index], layer.out.weight * gradients[len(layers) + index]
            heads = (layer.num_heads, layer.head_size)
            totals[0, index] += context.sum((0, 1)).view(heads).sum(-1).abs().detach()
            totals[1, index] += weight.sum(0).view(heads).sum(-1).abs().detach()
    for handle in handles:
        handle.remove()
    return totals[0] / len(items), totals[1] / len(items)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet", "roberta"])
def test_three_estimators_agree(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, architecture)
    items = encode_examples(checkpoint, classified(9))
    found = torch.stack(importance(checkpoint, items)[0])
    by_context, by_weight = three_estimates(checkpoint, items)
    assert found.max() > 1e-4
    torch.testing.assert_close(found, by_context, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found, by_weight, rtol=1e-3, atol=1e-6)


def test_both_texts_of_a_pair_count(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, task="sentence-similarity")
    items = encode_examples(checkpoint, [Example(("red cat", "the green"), 0.9), Example(("blue", "the cat is red"), 0.1)])
    torch.testing.assert_close(torch.stack(importance(checkpoint, items)[0]), three_estimates(checkpoint, items)[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "text-ranking"])
def test_the_batch_does_not_matter(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Public code that takes the absolute value of a batch's sum gives other ranks."""
    checkpoint = tiny(tmp_path, task=task)
    examples = {"text-classification": classified(16), "token-classification": tagged(16)}.get(task)
    items = encode_texts(checkpoint, TEXTS) if examples is None else encode_examples(checkpoint, examples)
    found = []
    for size in (1, 16):
        monkeypatch.setattr(importance_module, "BATCH_SIZE", size)
        found.append(importance(checkpoint, items))
    for one, sixteen in zip(*found, strict=True):
        for a, b in zip(one, sixteen, strict=True):
            assert a.max() > 0
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(a.max()))


def test_texts_with_a_class_are_measured_each_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contrastive loss that embedders are trained with is zero for a text alone in its batch."""
    checkpoint = tiny(tmp_path, task="sentence-similarity")
    items = encode_examples(checkpoint, classified(9))
    assert collate(checkpoint, items).labels is not None
    together = torch.stack(importance(checkpoint, items)[0])
    monkeypatch.setattr(importance_module, "BATCH_SIZE", 1)
    assert together.min() > 0
    torch.testing.assert_close(torch.stack(importance(checkpoint, items)[0]), together, rtol=1e-3, atol=1e-6)


def test_importance_is_the_mean_of_the_gradients_without_sign(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    items = encode_examples(checkpoint, classified(40))
    for rows, means in zip(gradients(checkpoint, items), importance(checkpoint, items), strict=True):
        assert [len(row) for row in rows] == [40, 40] and min(float(row.min()) for row in rows) < 0
        for row, mean in zip(rows, means, strict=True):
            torch.testing.assert_close(row.abs().mean(0), mean, rtol=1e-4, atol=1e-7)


def test_the_absolute_value_is_inside_the_mean(tmp_path: Path) -> None:
    """The same text with two labels whose gradients differ in sign: their importance does not cancel."""
    checkpoint = tiny(tmp_path)
    items = encode_examples(checkpoint, classified(2))
    opposite = Item(items[0].ids, items[0].types, 1)
    alone = [torch.stack(importance(checkpoint, [item])[0]) for item in (items[0], opposite)]
    both = torch.stack(importance(checkpoint, [items[0], opposite])[0])
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2, rtol=1e-4, atol=1e-7)


def test_dropout_is_off_and_the_mode_is_kept(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    items = encode_examples(checkpoint, classified(4))
    checkpoint.model.train()
    first, second = (importance(checkpoint, items)[0] for _ in range(2))
    assert checkpoint.model.training
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_masked_head_is_measured_where_it_is_gone(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    items = encode_examples(checkpoint, classified(4))
    masks = [torch.tensor([0.0, 1.0, 1.0]), torch.ones(3)]
    assert not torch.allclose(importance(checkpoint, items, heads=masks)[0][1], importance(checkpoint, items)[0][1])
