"""Method `budget`: prune heads and neurons to a budget of MACs or of time, without training (Kwon et al., 2022).

Three steps: which go, by the diagonal of the Fisher information under the budget; which of a layer's heads and neurons go together, by the
blocks of the Fisher information; and by how much what stays is scaled, by least squares on each sub-layer's output.
"""

from pydantic import Field, model_validator

from trtbert.compress.costs import Costs, mac_costs, time_costs
from trtbert.compress.importance import gradients
from trtbert.compress.layers import encoder_layers
from trtbert.compress.mask_search import rearrange, search
from trtbert.compress.method import Job, Options, Result
from trtbert.compress.prune import measured_items
from trtbert.compress.rescale import check_rescalable, rescale
from trtbert.compress.slicing import slice_model
from trtbert.errors import InputError


class BudgetOptions(Options):
    target_macs: float | None = Field(default=None, gt=0, lt=1)
    """Share of the MACs to keep; this or target_latency"""
    target_latency: float | None = Field(default=None, gt=0, lt=1)
    """Share of the time to keep, as PyTorch takes it on this CPU"""
    length: int = Field(default=128, ge=1)
    """Tokens of a text that MACs are counted, or the time is measured, for"""
    multiple_of: int = Field(default=32, ge=1)
    """What the width that a layer's FFN keeps is a multiple of"""
    rescale: bool = True
    """Scale what stays by least squares"""
    num_texts: int = Field(default=512, ge=1)
    """Texts to measure on, drawn from the data"""
    seed: int = 0
    """Of that draw"""

    @model_validator(mode="after")
    def _has_one_target(self) -> "BudgetOptions":
        if (self.target_macs is None) == (self.target_latency is None):
            raise ValueError("give `target_macs` or `target_latency`, one of them")
        return self


def prune_to_budget(job: Job, options: BudgetOptions) -> Result:
    """Prune to the budget; InputError where there are no texts, or the budget is below what every layer must keep."""
    checkpoint = job.checkpoint
    if options.rescale:
        check_rescalable(checkpoint.model)
    items = measured_items(job, options.num_texts, options.seed)
    costs = time_costs(checkpoint, options.length) if options.target_latency else mac_costs(checkpoint.model, options.length)
    layers = encoder_layers(checkpoint.model)
    counts = [layer.num_heads for layer in layers], [layer.width for layer in layers]
    whole = costs.total(*counts)
    budget = (options.target_macs or options.target_latency or 0) * whole
    _check_budget(costs, budget / whole, options.multiple_of, counts)
    of_heads, of_neurons = gradients(
        checkpoint, items, seed=options.seed, on_step=lambda done, total: job.on_step("Fisher information", done, total)
    )
    fisher = [[rows_EG.square().mean(0) for rows_EG in kind] for kind in (of_heads, of_neurons)]
    masks = search(fisher[0], fisher[1], costs, budget, options.multiple_of)
    heads, neurons = ([rearrange(*pair) for pair in zip(*kind, strict=True)] for kind in zip(masks, (of_heads, of_neurons), strict=True))
    errors = rescale(checkpoint, items, heads, neurons, job.on_step) if options.rescale else {}
    kept_heads, kept_neurons = ([mask.nonzero().flatten().tolist() for mask in kind] for kind in (heads, neurons))
    model = slice_model(checkpoint.model, checkpoint.task, heads=kept_heads, neurons=kept_neurons)
    sizes = [len(kept) for kept in kept_heads], [len(kept) for kept in kept_neurons]
    facts = {"heads": sizes[0], "widths": sizes[1], "share": round(costs.total(*sizes) / whole, 4), **errors}
    return Result(checkpoint=checkpoint.with_model(model), facts=facts)


def _check_budget(costs: Costs, share: float, multiple_of: int, counts: tuple[list[int], list[int]]) -> None:
    least = costs.total([1] * len(counts[0]), [min(multiple_of, width) for width in counts[1]]) / costs.total(*counts)
    if share <= least:
        raise InputError(
            f"The target is {share:.3f} of the cost, but with one head and {multiple_of} neurons in each layer {least:.3f} remains. Raise "
            "it, or remove layers first."
        )
