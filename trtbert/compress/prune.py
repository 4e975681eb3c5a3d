"""Methods `heads` and `ffn`: remove the heads or the FFN neurons that the loss depends on least, in steps, scored anew before each."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from pydantic import Field

from trtbert.compress.batches import Item, encode_examples, encode_texts
from trtbert.compress.importance import importance
from trtbert.compress.layers import encoder_layers
from trtbert.compress.method import Job, Options, Result
from trtbert.compress.slicing import Kept, slice_model
from trtbert.errors import InputError


class HeadsOptions(Options):
    sparsity: float = Field(default=0.4, gt=0, lt=1)
    """Share of all heads to remove"""
    steps: int = Field(default=4, ge=1)
    """Steps to remove them in; before each the importance is measured anew"""
    min_heads: int = Field(default=1, ge=1)
    """Heads that every layer keeps"""
    normalise: bool = True
    """Divide the importance of a layer's heads by their L2 norm, so that layers can be compared"""
    num_texts: int = Field(default=512, ge=1)
    """Texts to measure the importance on, drawn from the data"""
    seed: int = 0
    """Of that draw"""


class FfnOptions(Options):
    sparsity: float = Field(default=0.5, gt=0, lt=1)
    """Share of all FFN neurons to remove"""
    steps: int = Field(default=4, ge=1)
    """Steps to remove them in; before each the importance is measured anew"""
    multiple_of: int = Field(default=32, ge=1)
    """What the width that a layer keeps is a multiple of: 8 for FP16, 32 for INT8 tensor cores"""
    num_texts: int = Field(default=512, ge=1)
    """Texts to measure the importance on, drawn from the data"""
    seed: int = 0
    """Of that draw"""


def prune_heads(job: Job, options: HeadsOptions) -> Result:
    """Remove heads of the whole model, least important first; no layer loses its last `min_heads`.

    Raises InputError where there are no texts, or so many heads, or so few, cannot go.
    """
    checkpoint = job.checkpoint
    layers = encoder_layers(checkpoint.model)
    counts = [layer.num_heads for layer in layers]
    num_removed = round(options.sparsity * sum(counts))
    if not num_removed:
        raise InputError(f"sparsity {options.sparsity:g} of {sum(counts)} heads is less than one head, so nothing would go. Raise it.")
    if num_removed > (possible := sum(max(0, count - options.min_heads) for count in counts)):
        raise InputError(
            f"sparsity {options.sparsity:g} would remove {num_removed} of {sum(counts)} heads, but at most {possible} can go where every "
            f"layer keeps {options.min_heads}. Lower the sparsity, or min_heads."
        )
    items = measured_items(job, options.num_texts, options.seed)
    masks = [torch.ones(count) for count in counts]
    for target in _targets(num_removed, options.steps):
        on_step = _named(job, f"importance of heads, {target} of {num_removed} to go")
        scores = importance(checkpoint, items, heads=masks, seed=options.seed, on_step=on_step)[0]
        if options.normalise:
            scores = [_normalised(score, mask) for score, mask in zip(scores, masks, strict=True)]
        masks = mask_heads(scores, masks, target, options.min_heads)
    kept = _kept(masks)
    model = slice_model(checkpoint.model, checkpoint.task, heads=kept)
    return Result(checkpoint=checkpoint.with_model(model), facts={"heads": [len(indices) for indices in kept], "of": counts})


def prune_ffn(job: Job, options: FfnOptions) -> Result:
    """Remove neurons of the whole model, in groups of `multiple_of` in a layer, the least important groups first.

    Raises InputError where there are no texts, a layer has no more than one group, or so few neurons cannot go.
    """
    checkpoint = job.checkpoint
    counts = [layer.width for layer in encoder_layers(checkpoint.model)]
    if min(counts) < 2 * options.multiple_of:
        raise InputError(
            f"The narrowest FFN has {min(counts)} neurons, so that nothing can be removed in multiples of {options.multiple_of}. Lower "
            "multiple_of."
        )
    num_removed = round(options.sparsity * sum(counts))
    if 2 * num_removed < options.multiple_of:
        raise InputError(
            f"sparsity {options.sparsity:g} of {sum(counts)} neurons is less than half of {options.multiple_of}, so nothing would go in "
            "multiples of it. Raise it, or lower multiple_of."
        )
    items = measured_items(job, options.num_texts, options.seed)
    masks = [torch.ones(count) for count in counts]
    for target in _targets(num_removed, options.steps):
        on_step = _named(job, f"importance of neurons, {target} of {num_removed} to go")
        scores = importance(checkpoint, items, neurons=masks, seed=options.seed, on_step=on_step)[1]
        masks = mask_neurons(scores, masks, target, options.multiple_of)
    kept = _kept(masks)
    widths = [len(indices) for indices in kept]
    model = slice_model(checkpoint.model, checkpoint.task, neurons=kept)
    reached = 1 - sum(widths) / sum(counts)
    note = f"{reached:.1%} of the neurons went, which is as near to {options.sparsity:.1%} as multiples of {options.multiple_of} come"
    notes = (note,) * (abs(reached - options.sparsity) >= 0.005)
    return Result(checkpoint=checkpoint.with_model(model), notes=notes, facts={"widths": widths, "of": counts})


def mask_heads(scores: Sequence[torch.Tensor], masks: Sequence[torch.Tensor], num_removed: int, min_heads: int) -> list[torch.Tensor]:
    """The masks with `num_removed` heads gone in all, those with the lowest scores; what was gone stays so."""
    masks = [mask.clone() for mask in masks]
    missing = num_removed - sum(int((mask == 0).sum()) for mask in masks)
    ranked = sorted((float(score), layer, head) for layer, row in enumerate(scores) for head, score in enumerate(row))
    for _, layer, head in ranked:
        if missing > 0 and masks[layer][head] and masks[layer].sum() > min_heads:
            masks[layer][head] = 0
            missing -= 1
    return masks


def mask_neurons(scores: Sequence[torch.Tensor], masks: Sequence[torch.Tensor], num_removed: int, multiple_of: int) -> list[torch.Tensor]:
    """The masks with about `num_removed` neurons gone in all, and a multiple left in every layer.

    Of each layer the neurons make groups in the order of their scores, and the groups with the lowest means go first; those that are over
    a multiple go whatever the number.
    """
    gone, groups = [], []
    for layer, (score, mask) in enumerate(zip(scores, masks, strict=True)):
        score = score.masked_fill(mask == 0, -1.0)  # what was gone comes first
        order = score.argsort()
        spare = len(order) % multiple_of
        starts = [0, *range(spare or multiple_of, len(order), multiple_of)] if spare else list(range(0, len(order), multiple_of))
        gone.append(order)
        ends = [*starts[1:], len(order)]
        parts = zip(starts[:-1], ends[:-1], strict=True)
        groups += [(end - start == multiple_of, float(score[order[start:end]].mean()), layer, start, end) for start, end in parts]
    result = [torch.ones_like(mask) for mask in masks]
    total = 0
    for is_whole, _, layer, start, end in sorted(groups):
        if not is_whole or abs(total + (end - start) - num_removed) <= abs(total - num_removed):
            result[layer][gone[layer][start:end]] = 0
            total += end - start
    return result


def measured_items(job: Job, num_texts: int, seed: int) -> list[Item]:
    """At most `num_texts` items, labelled where there are labels; InputError where there are none."""
    checkpoint = job.checkpoint
    source = job.labelled or job.texts
    if not source:
        raise InputError("Importance is measured on texts, and there are none: give labelled examples with --data, or texts with --texts.")
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[:num_texts].tolist()
    if job.labelled:
        items = encode_examples(checkpoint, [job.labelled[index] for index in order], max_length=job.training.max_length)
        if not items:
            raise InputError(
                f"None of the {len(order)} examples drawn has an answer, or a word with a token, within {job.training.max_length} tokens. "
                "Raise max_length, or num_texts."
            )
        return items
    return encode_texts(checkpoint, [job.texts[index] for index in order], max_length=job.training.max_length)


def _targets(num_removed: int, steps: int) -> list[int]:
    """How many are gone after each step, evenly; steps in which none goes are left out."""
    counts = [round(num_removed * step / steps) for step in range(steps + 1)]
    return [after for before, after in pairwise(counts) if after > before]


def _normalised(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """By the norm of the heads that are there: the loss has a derivative where a gate is 0, too."""
    norm: torch.Tensor = (scores * mask).norm()
    return scores / (norm + 1e-20)


def _kept(masks: Sequence[torch.Tensor]) -> Kept:
    return [mask.nonzero().flatten().tolist() for mask in masks]


def _named(job: Job, what: str) -> Callable[[int, int], None]:
    return lambda done, total: job.on_step(what, done, total)
