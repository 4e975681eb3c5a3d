"""Method `magnitude`: set the smallest weights to zero, anywhere or two of every four (Gordon, Duh and Andrews, 2020)."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from trtbert.compress.batches import encode_examples
from trtbert.compress.finetune import train_on_labels
from trtbert.compress.layers import encoder_layers
from trtbert.compress.method import Job, Options, Result
from trtbert.errors import InputError

Pattern = Literal["unstructured", "2:4"]
Masks = Mapping[str, torch.Tensor]
"""By the name of a weight, True where it stays."""
_NOTES: dict[Pattern, str] = {
    "unstructured": "no speed-up expected: a dense runtime multiplies zeros as it does other numbers; only a compressed file gets smaller",
    "2:4": "no speed-up expected but from TensorRT with sparse weights switched on, on an Ampere GPU or a later one",
}


class MagnitudeOptions(Options):
    pattern: Pattern = "unstructured"
    """unstructured: zeros anywhere; 2:4: two of every four weights that follow each other in a row"""
    sparsity: float | None = Field(default=None, gt=0, lt=1)
    """Share of the weights of each matrix to set to zero; pattern 2:4 is always half"""
    embeddings: bool = False
    """Set weights of the embeddings to zero too"""
    finetune: bool = False
    """Train on the labelled examples afterwards; what is zero stays zero"""

    @model_validator(mode="after")
    def _fits_together(self) -> "MagnitudeOptions":
        if (self.pattern == "2:4") == (self.sparsity is not None):
            raise ValueError("give `sparsity`, or `pattern` 2:4, which is always half of the weights")
        if self.pattern == "2:4" and self.embeddings:
            raise ValueError("`pattern` 2:4 is for matrix products, and embeddings are looked up; leave `embeddings` out")
        return self


def prune_magnitude(job: Job, options: MagnitudeOptions) -> Result:
    """Zero the weights of every matrix of the encoder's layers that are nearest to zero; biases and LayerNorms stay.

    Raises InputError for 2:4 where the inputs of a matrix are no multiple of four, for a sparsity that no weight goes by, and for
    `finetune` without labelled examples.
    """
    checkpoint = job.checkpoint
    if options.finetune and not job.labelled:
        raise InputError("finetune trains the model, and there are no labelled examples: give them with --data.")
    weights = _weights(checkpoint.model, with_embeddings=options.embeddings)
    masks = {name: _mask(name, weight.detach(), options) for name, weight in weights.items()}
    if all(bool(mask.all()) for mask in masks.values()):
        largest = max(weight.numel() for weight in weights.values())
        raise InputError(
            f"sparsity {options.sparsity:g} of the {largest} weights of the largest matrix is less than one, so nothing would go. Raise it."
        )
    _apply(weights, masks)
    if options.finetune:
        items = encode_examples(checkpoint, job.labelled, max_length=job.training.max_length)
        train_on_labels(job, items, name="magnitude", what="training what is left", after_step=lambda _step: _apply(weights, masks))
    zeros, total = (sum(counts) for counts in zip(*((int((w == 0).sum()), w.numel()) for w in weights.values()), strict=True))
    facts: dict[str, Any] = {"sparsity": round(zeros / total, 4), "weights": total, "matrices": len(weights)}
    if options.pattern == "2:4":
        facts["is_2_4"] = all(is_2_4(weight) for weight in weights.values())
    return Result(checkpoint=checkpoint, notes=(_NOTES[options.pattern],), facts=facts)


def smallest_mask(weight: torch.Tensor, sparsity: float) -> torch.Tensor:
    """False for round(sparsity * count) weights, those with the smallest absolute values; of equal ones the first."""
    order = weight.abs().flatten().argsort(stable=True)
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[order[: round(sparsity * weight.numel())]] = False
    return mask.view_as(weight)


def mask_2_4(weight: torch.Tensor) -> torch.Tensor:
    """True for the two largest of every four weights that follow each other in a row [.., in], the axis that a product sums over."""
    groups = weight.abs().reshape(*weight.shape[:-1], -1, 4)
    largest = groups.argsort(dim=-1, descending=True, stable=True)[..., :2]
    return torch.zeros_like(groups, dtype=torch.bool).scatter(-1, largest, True).flatten(-2)


def is_2_4(weight: torch.Tensor) -> bool:
    """Whether at most two of every four weights that follow each other in a row are not zero."""
    return weight.shape[-1] % 4 == 0 and bool(((weight != 0).reshape(*weight.shape[:-1], -1, 4).sum(-1) <= 2).all())


def _weights(model: Any, *, with_embeddings: bool) -> dict[str, nn.Parameter]:
    """The matrices by name; one that is used in two places, such as that of a masked-language head, once."""
    inside = {id(module) for layer in encoder_layers(model) for module in layer.module.modules() if isinstance(module, nn.Linear)}
    chosen = {f"{name}.weight": module.weight for name, module in model.named_modules() if id(module) in inside}
    if with_embeddings:
        chosen |= {f"{name}.weight": module.weight for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    return chosen


def _mask(name: str, weight: torch.Tensor, options: MagnitudeOptions) -> torch.Tensor:
    if options.sparsity is not None:
        return smallest_mask(weight, options.sparsity)
    if weight.shape[-1] % 4:
        raise InputError(
            f"2:4 needs rows of a multiple of four weights, and {name} has rows of {weight.shape[-1]}. Use pattern unstructured"
            "; FFN widths become multiples of 32 by the method ffn."
        )
    return mask_2_4(weight)


@torch.no_grad()
def _apply(weights: Mapping[str, nn.Parameter], masks: Masks) -> None:
    for name, weight in weights.items():
        weight.masked_fill_(~masks[name].to(weight.device), 0)
