"""A model and a batch -> the loss of each example, for every task.

Legend: B examples, S sequence, L labels, D embedding.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from trtbert.checkpoint.heads import Dense, Normalize, Pooling, Step
from trtbert.checkpoint.hf_config import problem_of
from trtbert.checkpoint.read import Checkpoint
from trtbert.compress.batches import NO_LABEL, Batch
from trtbert.errors import UnsupportedError

CONTRASTIVE_TEMPERATURE = 0.05


def task_losses(checkpoint: Checkpoint, batch: Batch, *, model: Any = None) -> torch.Tensor:
    """[B], of the checkpoint's own model or of another `model` of the same task.

    Cross-entropy (mean over the labelled tokens of a text, and over first and last token of an answer), binary cross-entropy for several
    labels a text and for rankings, squared error for numbers. Embeddings: squared error of the cosine for pairs with a similarity; for
    texts with a class the supervised contrastive loss (Khosla et al., 2020) within the batch.
    """
    assert batch.labels is not None
    outputs = (model if model is not None else checkpoint.model)(**batch.inputs)
    loss: torch.Tensor = _LOSSES[checkpoint.task](checkpoint, outputs, batch, batch.labels)
    return loss


def embeddings(head: tuple[Step, ...], hidden_BSD: torch.Tensor, mask_BS: torch.Tensor) -> torch.Tensor:
    """[B,D]: what the steps of a sentence-transformers head make of the encoder's output, with gradients.

    UnsupportedError for a pooling other than mean, cls and max.
    """
    x = hidden_BSD
    for step in head:
        if isinstance(step, Pooling):
            x = torch.cat([_pooled(mode, x, mask_BS) for mode in step.modes], -1)
        elif isinstance(step, Normalize):
            x = functional.normalize(x, dim=-1)
        else:
            assert isinstance(step, Dense)
            x = _dense(step, x)
    return x


def _pooled(mode: str, x_BSD: torch.Tensor, mask_BS: torch.Tensor) -> torch.Tensor:
    mask_BS1 = mask_BS[:, :, None].to(x_BSD.dtype)
    if mode == "mean":
        return (x_BSD * mask_BS1).sum(1) / mask_BS1.sum(1).clamp(min=1)
    if mode == "cls":
        return x_BSD[:, 0]
    if mode == "max":
        return x_BSD.masked_fill(mask_BS1 == 0, torch.finfo(x_BSD.dtype).min).amax(1)
    raise UnsupportedError(f"Models that pool by {mode!r} cannot be trained here; those that pool by mean, cls or max can.")


def _dense(step: Dense, x: torch.Tensor) -> torch.Tensor:
    bias = None if step.bias_E is None else torch.from_numpy(step.bias_E).to(x)
    y = functional.linear(x, torch.from_numpy(step.weight_DE.T.copy()).to(x), bias)
    return _ACTIVATIONS[step.activation](y)


_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Identity": lambda x: x,
    "ReLU": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
}


def _class_losses(checkpoint: Checkpoint, outputs: Any, _batch: Batch, labels: torch.Tensor) -> torch.Tensor:
    problem = problem_of(checkpoint.model.config)
    if problem == "regression":
        return functional.mse_loss(outputs.logits[:, 0], labels.to(outputs.logits.dtype), reduction="none")
    if problem == "multi_label_classification":
        return functional.binary_cross_entropy_with_logits(outputs.logits, labels, reduction="none").mean(-1)
    return functional.cross_entropy(outputs.logits, labels, reduction="none")


def _tag_losses(_checkpoint: Checkpoint, outputs: Any, _batch: Batch, labels_BS: torch.Tensor) -> torch.Tensor:
    losses_BS = functional.cross_entropy(outputs.logits.transpose(1, 2), labels_BS, ignore_index=NO_LABEL, reduction="none")
    return losses_BS.sum(1) / (labels_BS != NO_LABEL).sum(1).clamp(min=1)


def _answer_losses(_checkpoint: Checkpoint, outputs: Any, batch: Batch, labels_B2: torch.Tensor) -> torch.Tensor:
    """No answer starts or ends in padding, so padding has no share in the softmax."""
    starts, ends = (logits.masked_fill(batch.mask == 0, -torch.inf) for logits in (outputs.start_logits, outputs.end_logits))
    total = functional.cross_entropy(starts, labels_B2[:, 0], reduction="none")
    return (total + functional.cross_entropy(ends, labels_B2[:, 1], reduction="none")) / 2


def _similarity_losses(checkpoint: Checkpoint, outputs: Any, batch: Batch, labels: torch.Tensor) -> torch.Tensor:
    vectors = functional.normalize(embeddings(checkpoint.head, outputs.last_hidden_state, batch.mask), dim=-1)
    if len(vectors) == len(batch):
        return contrastive_losses(vectors, labels)
    first_BD, second_BD = vectors.chunk(2)
    return ((first_BD * second_BD).sum(-1) - labels).square()


def contrastive_losses(vectors_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """[B]: for each text minus the mean log-softmax, over the others, of those of its class; 0 for one that is alone in its class."""
    is_self = torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
    similarities = (vectors_BD @ vectors_BD.T / CONTRASTIVE_TEMPERATURE).masked_fill(is_self, -torch.inf)
    is_same = (labels_B[:, None] == labels_B) & ~is_self
    log_softmax = similarities.log_softmax(-1).masked_fill(~is_same, 0)
    return -log_softmax.sum(-1) / is_same.sum(-1).clamp(min=1)


def _ranking_losses(_checkpoint: Checkpoint, outputs: Any, _batch: Batch, labels: torch.Tensor) -> torch.Tensor:
    if outputs.logits.shape[-1] == 1:
        return functional.binary_cross_entropy_with_logits(
            outputs.logits[:, 0], labels.clamp(0, 1).to(outputs.logits.dtype), reduction="none"
        )
    return functional.cross_entropy(outputs.logits, labels.long(), reduction="none")


_LOSSES: dict[str, Any] = {
    "text-classification": _class_losses,
    "token-classification": _tag_losses,
    "question-answering": _answer_losses,
    "sentence-similarity": _similarity_losses,
    "text-ranking": _ranking_losses,
}
