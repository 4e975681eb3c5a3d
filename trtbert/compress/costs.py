"""A model -> what its layers cost with each number of heads and of neurons, in MACs or in seconds."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trtbert.checkpoint.read import Checkpoint
from trtbert.checkpoint.successors import num_pairs
from trtbert.compress.layers import encoder_layers
from trtbert.compress.macs import count_macs
from trtbert.compress.slicing import slice_model
from trtbert.tasks import ATTENTION_MASK, INPUT_IDS

Table = Sequence[float]
_SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the heads and neurons, where times are measured."""
_TIMED_TOKENS = 512
_TIMED_RUNS = 4
_TIMED_ROUNDS = 3
"""Through all shares, so that other load that comes and goes does not fall on one of them alone."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """heads[i][n] is what the attention of layer i costs with n heads, neurons[i][n] its FFN with n neurons, `fixed` all the rest."""

    heads: Sequence[Table]
    neurons: Sequence[Table]
    fixed: float

    def total(self, heads: Sequence[int], neurons: Sequence[int]) -> float:
        """With so many heads and neurons in each layer."""
        counts = zip([*self.heads, *self.neurons], [*heads, *neurons], strict=True)
        return self.fixed + sum(table[count] for table, count in counts)


def mac_costs(model: Any, length: int) -> Costs:
    """A head has its rows of q, k and v, its columns of out and its part of two products; a neuron a row and a column."""
    repeats = model.config.num_hidden_layers if model.config.model_type == "albert" else 1
    heads, neurons = [], []
    for layer in encoder_layers(model):
        projected, multiplied = 4 * length * layer.query.in_features, 2 * num_pairs(model.config, length)
        head, neuron = repeats * layer.head_size * (projected + multiplied), repeats * 2 * length * layer.up.in_features
        heads.append([float(head * count) for count in range(layer.num_heads + 1)])
        neurons.append([float(neuron * count) for count in range(layer.width + 1)])
    prunable = sum(table[-1] for table in [*heads, *neurons])
    return Costs(heads=heads, neurons=neurons, fixed=count_macs(model, length=length) - prunable)


def time_costs(checkpoint: Checkpoint, length: int) -> Costs:
    """Seconds on this machine in torch: the sub-layers of models with a quarter, a half, ... of all heads and neurons are timed, and
    in between the times run in straight lines (Kwon et al., 2022); below a quarter nothing more is won.

    Layers differ in nothing but these numbers, so that all of them are measurements of one table.
    """
    layers = encoder_layers(checkpoint.model)
    sizes = [layer.num_heads for layer in layers], [layer.width for layer in layers]
    times: tuple[dict[int, float], dict[int, float]] = {}, {}
    fixed = math.inf
    for share in _SHARES * _TIMED_ROUNDS:
        counts = [[max(1, round(share * size)) for size in kind] for kind in sizes]
        kept = [[list(range(count)) for count in kind] for kind in counts]
        model = slice_model(checkpoint.model, checkpoint.task, heads=kept[0], neurons=kept[1])
        *seconds, rest = _timed(model, min(length, checkpoint.max_length))
        fixed = min(fixed, rest)
        for least, kind, values in zip(times, counts, (seconds[: len(layers)], seconds[len(layers) :]), strict=True):
            for count, value in zip(kind, values, strict=True):
                least[count] = min(value, least.get(count, value))
    return Costs(heads=[table(times[0])] * len(layers), neurons=[table(times[1])] * len(layers), fixed=fixed)


def table(times: Mapping[int, float]) -> Table:
    """By count from 0 to the largest measured one.

    Noise only adds to a time, so that a count takes no longer than any larger one did.
    """
    counts = sorted(times)
    rising = np.minimum.accumulate([times[count] for count in counts[::-1]])[::-1]
    values: list[float] = np.interp(range(counts[-1] + 1), counts, rising).tolist()
    return values


@torch.no_grad()
def _timed(model: Any, length: int) -> list[float]:
    """Seconds of each layer's attention, then of each one's FFN, then of the rest: the least of some runs, which other load disturbs the
    least."""
    layers = encoder_layers(model)
    spans: list[tuple[nn.Module, nn.Module]] = [(layer.query, layer.out) for layer in layers]
    spans += [(layer.up, layer.down) for layer in layers]
    ids = torch.full((max(1, _TIMED_TOKENS // length), length), model.config.vocab_size - 1)
    runs = []
    for _ in range(_TIMED_RUNS):
        with _stopwatch(spans) as seconds:
            start = time.perf_counter()
            model(**{INPUT_IDS: ids, ATTENTION_MASK: torch.ones_like(ids)})
            runs.append([*seconds, time.perf_counter() - start - sum(seconds)])
    least: list[float] = np.min(runs, axis=0).tolist()
    return least


@contextmanager
def _stopwatch(spans: Sequence[tuple[nn.Module, nn.Module]]) -> Iterator[list[float]]:
    """Seconds from the start of the first module to the end of the second, over all uses of a layer."""
    seconds, starts, handles = [0.0] * len(spans), [0.0] * len(spans), []

    def start(index: int) -> Any:
        def hook(_module: Any, _inputs: Any) -> None:
            starts[index] = time.perf_counter()

        return hook

    def stop(index: int) -> Any:
        def hook(_module: Any, _inputs: Any, _output: Any) -> None:
            seconds[index] += time.perf_counter() - starts[index]

        return hook

    for index, (first, last) in enumerate(spans):
        handles += [first.register_forward_pre_hook(start(index)), last.register_forward_hook(stop(index))]
    try:
        yield seconds
    finally:
        for handle in handles:
            handle.remove()
