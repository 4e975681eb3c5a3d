"""Method `replace`: successors of groups of layers are trained inside the model that they replace (BERT-of-Theseus, Xu et al., 2020).

A predecessor of N layers is cut into modules of k layers; the successor of each module is one layer, or where its attention is
replaced, each layer has one. In every step each module is computed by its successor with a probability that grows, else by the layers
that it replaces; only successors are trained.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from trtbert.checkpoint.read import Checkpoint
from trtbert.compress.attention import banded_model, grouped_model
from trtbert.compress.batches import Batch, collate
from trtbert.compress.distill import DistillOptions, answers_loss
from trtbert.compress.layers import Layer, encoder_layers, layer_output, with_hidden
from trtbert.compress.method import Job, Options, Result
from trtbert.compress.objectives import task_losses
from trtbert.compress.slicing import keep_layers
from trtbert.compress.training import History, num_steps, train
from trtbert.compress.transfer import labelled_items, transfer_items
from trtbert.errors import InputError, UnsupportedError


class ReplaceOptions(Options):
    successor: Literal["layers", "gqa", "banded"] = "layers"
    """One layer for several, or for each a layer with another attention: keys and values of fewer heads, or in bands"""
    group: int = Field(default=2, ge=2)
    """Layers that one successor replaces, of --successor layers"""
    num_kv_heads: int = Field(default=1, ge=1)
    """Heads of keys and values, of --successor gqa; 1 is multi-query attention"""
    window: int = Field(default=64, ge=1)
    """Tokens that a token sees on each side, of --successor banded; every token also sees the first, which sees them all"""
    mode: Literal["theseus", "blend"] = "theseus"
    """Choose the successor or its predecessor at random in each step, or blend their outputs (Deterministic Continuous Replacement)"""
    curriculum: Literal["linear", "constant"] = "linear"
    """How the probability (or the successors' share of the blend) grows: in a line, or it stays and then is 1"""
    base: float = Field(default=0.3, ge=0, le=1)
    """The probability at the start, or the constant one"""
    share: float = Field(default=0.5, gt=0, le=1)
    """Of the steps, until the probability is 1; the rest trains the successors by themselves"""
    init: Literal["every-other", "first", "last"] = "every-other"
    """Which layers successors start as: the last of their own module, or the first or last layers of the model; the paper has first"""

    @model_validator(mode="after")
    def _fits_together(self) -> "ReplaceOptions":
        of = {"group": "layers", "init": "layers", "num_kv_heads": "gqa", "window": "banded"}
        if wrong := sorted(name for name in self.model_fields_set & set(of) if of[name] != self.successor):
            raise ValueError(f"{', '.join(f'`{name}`' for name in wrong)} is not for `successor` {self.successor}; leave it out")
        return self


def replace_layers(job: Job, options: ReplaceOptions) -> Result:
    """Train successors on `job.labelled` and give the model that has them in place of its layers; without labels they learn, on
    `job.texts`, what the model answered with its own layers.

    Embeddings and the task's head stay as they are, bit for bit. Raises InputError for layers that do not divide into modules, or heads
    into groups, or where there are no texts; UnsupportedError for a family or a model whose attention cannot be replaced.
    """
    checkpoint = job.checkpoint
    if not job.labelled and not job.texts:
        raise InputError("replace trains on labelled examples of the task, or on texts: give them with --data, or with --texts.")
    smaller = _successor_model(checkpoint, options)
    layers = encoder_layers(checkpoint.model)
    successors = nn.ModuleList(layer.module for layer in encoder_layers(smaller))
    checkpoint.model.requires_grad_(False)
    history = _train(job, options, layers, successors)
    checkpoint.model.requires_grad_(True)
    return Result(
        checkpoint=checkpoint.with_model(smaller),
        notes=("plain transformers reads this folder, but computes whole attention",) if options.successor == "banded" else (),
        facts={"steps": len(history.losses), "last_loss": round(history.losses[-1], 6), "scores": history.scores},
    )


def _successor_model(checkpoint: Checkpoint, options: ReplaceOptions) -> Any:
    """The model that will be the result, with successors as they are before training."""
    model, task = checkpoint.model, checkpoint.task
    if options.successor == "gqa":
        return grouped_model(model, task, options.num_kv_heads)
    if options.successor == "banded":
        return banded_model(model, task, options.window)
    if model.config.model_type == "albert":
        raise UnsupportedError("albert has one layer that it uses again and again; --method depth makes it use that less often.")
    num_layers = len(encoder_layers(model))
    if num_layers == 1:
        raise InputError("The model has one layer, and a successor takes the place of two or more. Give a model of more layers.")
    if num_layers % options.group:
        raise InputError(
            f"The {num_layers} layers do not divide into modules of {options.group}; give a --group that divides {num_layers}."
        )
    return keep_layers(model, task, initial_layers(num_layers, options.group, options.init))


def initial_layers(num_layers: int, group: int, init: str) -> list[int]:
    """The layer that each successor starts as."""
    count = num_layers // group
    starts = {"every-other": range(group - 1, num_layers, group), "first": range(count), "last": range(num_layers - count, num_layers)}
    return list(starts[init])


def replacing_rate(step: int, total: int, options: ReplaceOptions) -> float:
    """The probability at a step, counted from 0: base + slope t for t = step + 1, or the base; 1 from `share` of the steps on."""
    end = max(1, round(options.share * total))
    if step >= end:
        return 1.0
    return options.base if options.curriculum == "constant" else min(1.0, options.base + (1 - options.base) * (step + 1) / end)


class Switch:
    """How much of each module its successor computes: 0 or 1, or between them when the outputs are blended."""

    def __init__(self, count: int) -> None:
        self.shares = [1.0] * count

    def draw(self, rate: float) -> None:
        """Each module by itself, so that it may be none: of n modules n x rate are drawn on average."""
        self.shares = (torch.rand(len(self.shares)) < rate).float().tolist()

    def blend(self, rate: float) -> None:
        self.shares = [rate] * len(self.shares)


@contextmanager
def replaced(layers: Sequence[Layer], successors: Sequence[nn.Module], switch: Switch) -> Iterator[None]:
    """Inside, each module of layers gives share x successor + (1 - share) x its own output; a share of 0 or 1 computes one only.

    The first layer of a module computes it all, and the others hand it on.
    """
    group = len(layers) // len(successors)
    patched: list[nn.Module] = []
    for module, successor in enumerate(successors):
        members = [layer.module for layer in layers[module * group : (module + 1) * group]]
        computed = _Module([member.forward for member in members], successor, switch, module)
        patched += members
        members[0].forward = computed.forward
        for member in members[1:]:
            member.forward = computed.hand_on
    try:
        yield
    finally:
        for member in patched:
            del member.forward  # the class's own shows again


class _Module:
    """What a module of layers computes while it is being replaced."""

    def __init__(self, originals: Sequence[Any], successor: nn.Module, switch: Switch, index: int) -> None:
        self._originals, self._successor, self._switch, self._index = originals, successor, switch, index
        self._is_tuple = False

    def forward(self, hidden_BSD: torch.Tensor, *args: Any, **options: Any) -> Any:
        share = self._switch.shares[self._index]
        outputs: list[tuple[float, Any]] = []
        if share < 1:
            result: Any = hidden_BSD
            for original in self._originals:
                result = original(layer_output(result), *args, **options)
            outputs.append((1 - share, result))
        if share > 0:
            outputs.append((share, self._successor(hidden_BSD, *args, **options)))
        last = outputs[-1][1]
        self._is_tuple = isinstance(last, tuple)
        if len(outputs) == 1:
            return last
        return with_hidden(last, sum(weight * layer_output(output) for weight, output in outputs))

    def hand_on(self, hidden_BSD: torch.Tensor, *_args: Any, **_options: Any) -> Any:
        """The other layers of the module, in the form that the family's layers give."""
        return (hidden_BSD,) if self._is_tuple else hidden_BSD


def _without_gradients(loss: torch.Tensor) -> torch.Tensor:
    """A loss to go back from where no successor computed: none gets a gradient, and the optimiser leaves all as they are."""
    return loss + torch.zeros_like(loss, requires_grad=True)


def _train(job: Job, options: ReplaceOptions, layers: Sequence[Layer], successors: nn.ModuleList) -> History:
    checkpoint = job.checkpoint
    items = labelled_items(checkpoint, job) or transfer_items(checkpoint, job)
    total = num_steps(len(items), job.training)
    switch = Switch(len(successors))
    trained = nn.ModuleDict({"successors": successors})

    def loss(batch: Batch, step: int) -> torch.Tensor:
        rate = replacing_rate(step, total, options)
        expected = None if job.labelled else own_answers(batch)
        switch.blend(rate) if options.mode == "blend" else switch.draw(rate)
        if job.labelled:
            value = task_losses(checkpoint, batch).mean()
        else:
            value = answers_loss(checkpoint, checkpoint.model(**batch.inputs), expected, batch, DistillOptions())
        return value if value.requires_grad else _without_gradients(value)

    def own_answers(batch: Batch) -> Any:
        switch.blend(0.0)
        with torch.no_grad():
            return checkpoint.model(**batch.inputs)

    def evaluate() -> float:
        assert job.evaluate is not None
        switch.blend(1.0)
        return job.evaluate(checkpoint.model)

    with replaced(layers, list(successors), switch):
        return train(
            trained,
            loss,
            items,
            job.training,
            collate=lambda members: collate(checkpoint, members),
            frozen=[checkpoint.model],
            evaluate=None if job.evaluate is None else evaluate,
            state=None if job.state is None else job.state / "replace",
            on_step=lambda done, count, _loss: job.on_step("replacing layers", done, count),
        )
