"""The loss of each example: transformers' own losses where it has them, and what padding must not change."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.compress.models import classified, tagged, tiny
from trtbert.checkpoint.heads import Normalize, Pooling, run_head
from trtbert.compress.batches import Item, collate, encode_examples
from trtbert.compress.objectives import CONTRASTIVE_TEMPERATURE, contrastive_losses, embeddings, task_losses
from trtbert.data import Example
from trtbert.errors import UnsupportedError
from trtbert.tasks import Task

CONTEXT = "A young engineer named Peter Novak works for Acme in Berlin."
EXAMPLES: dict[Task, list[Example]] = {
    "text-classification": classified(7),
    "token-classification": tagged(7),
    "question-answering": [Example(("Who?", CONTEXT), ("Peter Novak",)), Example(("Where does he work today?", CONTEXT), ("Berlin",))],
    "sentence-similarity": [Example(("red cat", "the red"), 0.5), Example(("blue", "green cat the the the"), 0.1)],
    "text-ranking": [Example(("red?", "the red cat"), 1.0), Example(("red?", "blue"), 0.0)],
}


@pytest.mark.parametrize("task", EXAMPLES)
def test_the_loss_of_a_text_does_not_depend_on_its_batch(task: Task, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, task=task)
    items = encode_examples(checkpoint, EXAMPLES[task])
    with torch.no_grad():
        together = task_losses(checkpoint, collate(checkpoint, items))
        alone = torch.cat([task_losses(checkpoint, collate(checkpoint, [item])) for item in items])
    assert together.shape == (len(items),)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "labels"), [("text-classification", ("labels",)), ("question-answering", ("start_positions", "end_positions"))]
)
def test_the_mean_is_the_loss_of_transformers(task: Task, labels: tuple[str, ...], tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, task=task)
    batch = collate(checkpoint, encode_examples(checkpoint, EXAMPLES[task][:1]))  # one, with no padding
    assert batch.labels is not None
    given: dict[str, Any] = dict(zip(labels, batch.labels.unbind(-1) if len(labels) > 1 else [batch.labels], strict=True))
    with torch.no_grad():
        expected = checkpoint.model(**batch.inputs, **given).loss
        torch.testing.assert_close(task_losses(checkpoint, batch).mean(), expected)


def test_tags_count_once_a_text(tmp_path: Path) -> None:
    """The mean over the labelled tokens of each text by itself, where transformers takes the mean over all tokens of the batch."""
    checkpoint = tiny(tmp_path, task="token-classification")
    for item in encode_examples(checkpoint, EXAMPLES["token-classification"]):
        batch = collate(checkpoint, [item])
        with torch.no_grad():
            torch.testing.assert_close(task_losses(checkpoint, batch)[0], checkpoint.model(**batch.inputs, labels=batch.labels).loss)


def test_contrast() -> None:
    """By the formula, in numpy: two texts of class 0, two of class 1, one alone."""
    vectors = torch.nn.functional.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    labels = torch.tensor([0, 1, 0, 1, 2])
    similarities = (vectors @ vectors.T / CONTRASTIVE_TEMPERATURE).double().numpy()
    expected = []
    for row in range(5):
        others = [column for column in range(5) if column != row]
        total = np.log(np.exp(similarities[row, others]).sum())
        same = [column for column in others if labels[column] == labels[row]]
        expected.append(-np.mean([similarities[row, column] - total for column in same]) if same else 0.0)
    np.testing.assert_allclose(contrastive_losses(vectors, labels), expected, rtol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
def test_an_embedding_is_that_of_the_package(mode: Any, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, task="sentence-similarity")
    batch = collate(checkpoint, [Item(([2, 9, 8, 3],), ([0] * 4,)), Item(([2, 7, 3],), ([0] * 3,))])
    head = (Pooling((mode,)), Normalize())
    with torch.no_grad():
        hidden = checkpoint.model(**batch.inputs).last_hidden_state
        found = embeddings(head, hidden, batch.mask)
    np.testing.assert_allclose(found, run_head(head, hidden.numpy(), batch.mask.numpy()), rtol=1e-5, atol=1e-6)


def test_a_pooling_that_is_not_trained(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="pool by 'lasttoken' cannot be trained here; those that pool by mean, cls or max can"):
        embeddings((Pooling(("lasttoken",)),), torch.zeros(1, 2, 3), torch.ones(1, 2))
