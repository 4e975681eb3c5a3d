"""Method `l0`: learn which heads, FFN neurons and layers to keep, with L0 gates up to a target sparsity, and cut out the rest.

Gates are hard-concrete (Louizos et al., 2018) on heads and neurons (McCarley et al., 2019) and on whole layers; a Lagrangian drives the
expected sparsity to the target (CoFi: Xia et al., 2022), while the model learns from the unpruned one.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from trtbert.checkpoint.read import Checkpoint
from trtbert.compress.batches import Batch, Item, collate, encode_examples, encode_texts
from trtbert.compress.distill import DistillOptions, answers_loss
from trtbert.compress.gates import gated
from trtbert.compress.hard_concrete import HardConcrete
from trtbert.compress.layers import Layer, encoder_layers, layer_input, layer_output, with_hidden
from trtbert.compress.method import Job, Options, Result
from trtbert.compress.objectives import task_losses
from trtbert.compress.slicing import check_heads_can_go, keep_layers, slice_model
from trtbert.compress.teachers import check_better_than_chance, check_same_task
from trtbert.compress.training import num_steps, train
from trtbert.errors import InputError

Kind = Literal["heads", "neurons", "layers"]
_NEAR = 0.02
"""A sparsity further than this from the target is told."""
_SETTLED = 0.1
"""So is the one that the gates expect, which swings about the target at first."""


class L0Options(Options):
    target_sparsity: float = Field(default=0.5, gt=0, lt=1)
    """Share of the parameters of the layers to remove"""
    gates: tuple[Kind, ...] = ("heads", "neurons", "layers")
    """What may be removed"""
    gate_learning_rate: float = Field(default=0.05, gt=0)
    """Of the gates and of the Lagrangian's multipliers"""
    warmup: float = Field(default=0.3, ge=0, le=1)
    """Share of the steps over which the target grows to its full size"""
    alpha: float = Field(default=0.5, ge=0, le=1)
    """Weight of the unpruned model's answers beside the labels; without labels they are all"""
    temperature: float = Field(default=2.0, gt=0)
    """Of the softmax of both models' logits"""
    multiple_of: int = Field(default=32, ge=1)
    """What the width that a layer's FFN keeps is a multiple of"""


def prune_l0(job: Job, options: L0Options) -> Result:
    """Train gates and weights together for `job.training`, then cut out what is closed.

    The gates that stay open multiply weights, so that the result computes what the gated model does. Train it on, or distil it, in a
    further step. Raises InputError where there are no texts, or the gates cannot reach the target.
    """
    checkpoint, teacher = job.checkpoint, job.teacher
    if teacher is not None:
        check_same_task(checkpoint, teacher)
        check_better_than_chance(job, teacher)
    teacher = teacher or checkpoint.with_model(copy.deepcopy(checkpoint.model))
    teacher.model.eval().requires_grad_(False)
    items = _items(job)
    if "heads" in options.gates:
        check_heads_can_go(checkpoint.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.training.seed)
        gates = LayerGates(encoder_layers(checkpoint.model), options.gates)
    _check_target(gates, options)
    _train(job, options, teacher, gates, items)
    expected = float(gates.expected_sparsity().detach())
    kept = gates.choose(options.target_sparsity, options.multiple_of)
    model, sparsity = _cut(checkpoint, gates, kept)
    facts = {
        "sparsity": round(sparsity, 4),
        "expected_sparsity": round(expected, 4),  # that training reached; what is cut is chosen to be near the target wherever it is
        "layers": [index for index, is_kept in enumerate(kept["layers"]) if is_kept],
        "heads": [int(mask.sum()) for mask in kept["heads"]],
        "widths": [int(mask.sum()) for mask in kept["neurons"]],
    }
    notes = []
    if abs(sparsity - options.target_sparsity) > _NEAR:
        kinds = ", ".join(options.gates)
        notes.append(f"{sparsity:.1%} of the weights went; gates on {kinds} come no nearer to {options.target_sparsity:.1%}")
    if abs(expected - options.target_sparsity) > _SETTLED:
        notes.append(
            f"the gates had not settled: they expected {expected:.1%} to go, and {options.target_sparsity:.1%} were to; train longer"
        )
    return Result(checkpoint=checkpoint.with_model(model), notes=tuple(notes), facts=facts)


def _check_target(gates: "LayerGates", options: L0Options) -> None:
    """InputError for a target above what the gates can reach, or below what they begin at."""
    if options.target_sparsity > (possible := gates.largest_sparsity(options.multiple_of)):
        raise InputError(
            f"target_sparsity {options.target_sparsity:g} cannot be reached by gates on {', '.join(options.gates)}: at most "
            f"{possible:.3f}. Lower it, or add gates."
        )
    if options.target_sparsity < (least := gates.least_sparsity(options.multiple_of)):
        raise InputError(
            f"target_sparsity {options.target_sparsity:g} would remove nothing: gates on {', '.join(options.gates)}, with neurons in "
            f"multiples of {options.multiple_of}, begin at {least:.2g}. Raise it."
        )


class LayerGates(nn.Module):
    """A gate for each head, neuron and layer; kinds that are not wanted are always open."""

    def __init__(self, layers: Sequence[Layer], kinds: Sequence[Kind]) -> None:
        super().__init__()
        self.layers = list(layers)
        self.heads = nn.ModuleList([HardConcrete(layer.num_heads) for layer in layers] if "heads" in kinds else [])
        self.neurons = nn.ModuleList([HardConcrete(layer.width) for layer in layers] if "neurons" in kinds else [])
        self.whole = HardConcrete(len(layers)) if "layers" in kinds else None
        self.multipliers = nn.Parameter(torch.zeros(2))
        """Of the Lagrangian: on the distance to the target and on its square."""
        self.head_costs = [4 * layer.head_size * layer.query.in_features for layer in layers]
        self.neuron_costs = [2 * layer.up.in_features for layer in layers]

    @property
    def total_cost(self) -> int:
        """Weights of all heads and neurons; biases and LayerNorms are left out."""
        return sum(self.cost_of_layer(index) for index in range(len(self.layers)))

    def cost_of_layer(self, index: int) -> int:
        layer = self.layers[index]
        return layer.num_heads * self.head_costs[index] + layer.width * self.neuron_costs[index]

    def expected_sparsity(self) -> torch.Tensor:
        """The share of the cost that is closed, in expectation."""
        kept: Any = 0.0
        for index, layer in enumerate(self.layers):
            heads = self.heads[index].open_probability().sum() if self.heads else layer.num_heads  # type: ignore[operator]
            neurons = self.neurons[index].open_probability().sum() if self.neurons else layer.width  # type: ignore[operator]
            cost = heads * self.head_costs[index] + neurons * self.neuron_costs[index]
            kept = kept + cost * (1.0 if self.whole is None else self.whole.open_probability()[index])
        return torch.as_tensor(1 - kept / self.total_cost)

    def largest_sparsity(self, multiple_of: int) -> float:
        """With one layer, or of each layer one head and one multiple of neurons."""
        if self.whole is not None:
            kept = self._smallest(0, multiple_of)
        else:
            kept = sum(self._smallest(index, multiple_of) for index in range(len(self.layers)))
        return 1 - kept / self.total_cost

    @torch.no_grad()
    def least_sparsity(self, multiple_of: int) -> float:
        """What `choose` begins to remove something at: half of the smallest piece, or of the smallest layer where only layers go."""
        prices = [price for index in range(len(self.layers)) for *_, price in self._pieces(index, multiple_of)]
        return min(prices or map(self.cost_of_layer, range(len(self.layers)))) / 2 / self.total_cost

    def _smallest(self, index: int, multiple_of: int) -> int:
        layer = self.layers[index]
        heads = 1 if self.heads else layer.num_heads
        neurons = min(multiple_of, layer.width) if self.neurons else layer.width
        return heads * self.head_costs[index] + neurons * self.neuron_costs[index]

    def lagrangian(self, target: float) -> torch.Tensor:
        """l1 (s - t) + l2 (s - t)^2; the multipliers grow by gradient ascent while the sparsity s is off the target t."""
        distance = self.expected_sparsity() - target
        return self.multipliers[0] * distance + self.multipliers[1] * distance.square()

    @contextmanager
    def applied(self, kept: dict[str, Any] | None = None) -> Iterator[None]:
        """Inside, the model computes with gates, sampled or not; a layer's gate z gives z layer(x) + (1 - z) x.

        With what `choose` gave, what does not stay is closed, and layers that stay are open: what the model is after it is cut.
        """
        with ExitStack() as stack:
            heads = [gate() for gate in self.heads]
            neurons = [gate() for gate in self.neurons]
            values = None if self.whole is None else self.whole()
            if kept is not None:
                heads = [gate * mask for gate, mask in zip(heads, kept["heads"], strict=False)]
                neurons = [gate * mask for gate, mask in zip(neurons, kept["neurons"], strict=False)]
                values = torch.tensor(kept["layers"], dtype=torch.float32)
            stack.enter_context(gated(self.layers, heads=heads, neurons=neurons))
            if values is not None:
                for index, layer in enumerate(self.layers):
                    handle = layer.module.register_forward_hook(_mixer(values[index]), with_kwargs=True)
                    stack.callback(handle.remove)
            yield

    def clamp(self) -> None:
        for gate in self.modules():
            if isinstance(gate, HardConcrete):
                gate.clamp()

    @torch.no_grad()
    def choose(self, target: float, multiple_of: int) -> dict[str, Any]:
        """What stays: {"layers": [bool], "heads": [mask], "neurons": [mask]}, whose cost is as near to the target as the pieces allow.

        Layers that are closed go first; then heads and groups of neurons, those with the lowest gates first, whatever their layer. A layer
        that is closed comes back where too much would be gone, and an open one goes where pieces alone do not reach the target, if that
        is nearer to it.
        """
        budget = (1 - target) * self.total_cost
        layers = self._choose_layers(budget, multiple_of)
        pieces = []
        for index, is_kept in enumerate(layers):
            if is_kept:
                pieces += self._pieces(index, multiple_of)
        heads = [torch.full((layer.num_heads,), bool(is_kept)) for layer, is_kept in zip(self.layers, layers, strict=True)]
        neurons = [torch.full((layer.width,), bool(is_kept)) for layer, is_kept in zip(self.layers, layers, strict=True)]
        cost = sum(self.cost_of_layer(index) for index, is_kept in enumerate(layers) if is_kept)
        for _, index, kind, members, price in sorted(pieces, key=lambda piece: piece[:2]):
            if abs(cost - price - budget) < abs(cost - budget):
                (heads if kind == "heads" else neurons)[index][members] = False
                cost -= price
        return {"layers": layers, "heads": heads, "neurons": neurons}

    def _choose_layers(self, budget: float, multiple_of: int) -> list[bool]:
        if self.whole is None:
            return [True] * len(self.layers)
        values = self.whole.open_probability().tolist()
        order = sorted(range(len(values)), key=values.__getitem__)
        layers = [value > 0.5 for value in values]
        for index, is_kept in [*((index, True) for index in reversed(order)), *((index, False) for index in order)]:
            changed = [*layers[:index], is_kept, *layers[index + 1 :]]
            if any(changed) and self._distance(changed, budget, multiple_of) < self._distance(layers, budget, multiple_of):
                layers = changed
        return layers

    def _distance(self, layers: Sequence[bool], budget: float, multiple_of: int) -> float:
        """Between the budget and the nearest cost that the pieces of these layers can come to."""
        indices = [index for index, is_kept in enumerate(layers) if is_kept]
        least, most = sum(self._smallest(index, multiple_of) for index in indices), sum(map(self.cost_of_layer, indices))
        return max(least - budget, budget - most, 0)

    def _pieces(self, index: int, multiple_of: int) -> list[tuple[float, int, str, torch.Tensor, int]]:
        """(gate, layer, kind, members, cost) of what may go from a layer: all heads but one, groups of neurons but one."""
        pieces: list[tuple[float, int, str, torch.Tensor, int]] = []
        if self.heads:
            values = self.heads[index].open_probability()  # type: ignore[operator]
            for head in values.argsort()[:-1]:
                pieces.append((float(values[head]), index, "heads", head[None], self.head_costs[index]))
        if self.neurons:
            values = self.neurons[index].open_probability()  # type: ignore[operator]
            order, spare = values.argsort(), len(values) % multiple_of
            for start, end in pairwise([*[0] * bool(spare), *range(spare, len(values), multiple_of)]):
                members = order[start:end]
                pieces.append((float(values[members].mean()), index, "neurons", members, len(members) * self.neuron_costs[index]))
        return pieces


def _mixer(gate: torch.Tensor) -> Any:
    def hook(_module: Any, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> Any:
        return with_hidden(output, gate * layer_output(output) + (1 - gate) * layer_input(inputs, options))

    return hook


def _train(job: Job, options: L0Options, teacher: Checkpoint, gates: LayerGates, items: Sequence[Item]) -> None:
    checkpoint = job.checkpoint
    total = num_steps(len(items), job.training)
    answers = DistillOptions(temperature=options.temperature)
    trained = nn.ModuleDict({"model": checkpoint.model, "gates": gates})
    logits = [gate.log_alpha for gate in gates.modules() if isinstance(gate, HardConcrete)]

    def loss(batch: Batch, step: int) -> torch.Tensor:
        with torch.no_grad():
            taught = teacher.model(**batch.inputs)
        with gates.applied():
            outputs = checkpoint.model(**batch.inputs)
            alpha = options.alpha if batch.labels is not None else 1.0
            value = alpha * answers_loss(checkpoint, outputs, taught, batch, answers)
            if alpha < 1:
                value = value + (1 - alpha) * task_losses(checkpoint, batch).mean()
        return value + gates.lagrangian(target_at(step, total, options))

    train(
        trained,
        loss,
        items,
        job.training,
        collate=lambda members: collate(checkpoint, members),
        frozen=[teacher.model],
        groups=[
            {"params": logits, "lr": options.gate_learning_rate, "weight_decay": 0.0},
            {"params": [gates.multipliers], "lr": options.gate_learning_rate, "weight_decay": 0.0, "maximize": True},
        ],
        after_step=lambda _step: gates.clamp(),
        state=None if job.state is None else job.state / "l0",
        on_step=lambda done, count, _loss: job.on_step("training gates", done, count),
    )


def target_at(step: int, total: int, options: L0Options) -> float:
    """The target of a step, counted from 0: up in a line over the warm-up, then the full one."""
    warmup = options.warmup * total
    return options.target_sparsity * min(1.0, (step + 1) / warmup) if warmup else options.target_sparsity


@torch.no_grad()
def _cut(checkpoint: Checkpoint, gates: LayerGates, kept: dict[str, Any]) -> tuple[Any, float]:
    """The model without what is closed, and the share of the cost that is gone; gates that are open are folded into the weights behind."""
    gates.eval()
    layers = gates.layers
    for index, layer in enumerate(layers):
        if gates.heads:
            layer.out.weight *= gates.heads[index]().repeat_interleave(layer.head_size)
        if gates.neurons:
            layer.down.weight *= gates.neurons[index]()
    cost = sum(
        int(kept["heads"][index].sum()) * gates.head_costs[index] + int(kept["neurons"][index].sum()) * gates.neuron_costs[index]
        for index, is_kept in enumerate(kept["layers"])
        if is_kept
    )
    indices = [index for index, is_kept in enumerate(kept["layers"]) if is_kept]
    model = checkpoint.model
    if len(indices) < len(layers):
        model = keep_layers(model, checkpoint.task, indices)
    heads, neurons = ([kept[kind][index].nonzero().flatten().tolist() for index in indices] for kind in ("heads", "neurons"))
    return slice_model(model, checkpoint.task, heads=heads, neurons=neurons), 1 - cost / gates.total_cost


def _items(job: Job) -> list[Item]:
    if job.labelled:
        return encode_examples(job.checkpoint, job.labelled, max_length=job.training.max_length)
    if job.texts:
        return encode_texts(job.checkpoint, job.texts, max_length=job.training.max_length)
    raise InputError("l0 trains on labelled examples, given with --data, or on texts, given with --texts; there are neither.")
