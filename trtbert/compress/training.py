"""The one training loop: a module, a loss and items -> the module trained, the same whether it was interrupted or not.

All that is random in a step (dropout, gates, replaced modules) comes from a seed made of the run's seed and the number of the step, and
the order of the items from the seed and the number of the epoch. So a run that is resumed needs its weights, the optimiser's state and
the number of the step, and goes on as if it had never stopped.
"""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from trtbert.compress.batches import Batch, Item
from trtbert.config import TrainingConfig
from trtbert.errors import InputError, MissingRuntimeError, TrainingError

logger = logging.getLogger(__name__)

Loss = Callable[[Batch, int], torch.Tensor]
"""A batch and the number of the step, from 0 -> the mean loss of its examples."""
STATE, BEST = "state.safetensors", "best.safetensors"
_POOL = 16
"""Batches whose items are sorted by length together: little padding, and still another order in each epoch."""


@dataclass
class History:
    """What happened in a run."""

    losses: list[float] = field(default_factory=list)
    """Of each step, over all processes."""
    scores: list[float] = field(default_factory=list)
    """Of each epoch, where there is something to evaluate; the weights at the end are those of the best."""


def train(
    module: nn.Module,
    loss: Loss,
    items: Sequence[Item],
    config: TrainingConfig,
    *,
    collate: Callable[[Sequence[Item]], Batch],
    frozen: Sequence[nn.Module] = (),
    groups: Sequence[dict[str, Any]] = (),
    evaluate: Callable[[], float] | None = None,
    after_step: Callable[[int], None] = lambda _step: None,
    state: Path | None = None,
    on_step: Callable[[int, int, float], None] = lambda _step, _total, _loss: None,
) -> History:
    """Train the parameters of `module` that require gradients, by AdamW with a linear warm-up and decay.

    `frozen` are other modules that the loss runs, such as a teacher: while training lasts they are on the device of the module.
    `groups` are optimiser groups, with own options, for some of the parameters. `evaluate` scores the module after each epoch, higher is
    better: the best weights win, and `config.patience` epochs without a better one end the run. `after_step` may change weights (clamp,
    mask). `state` is a folder where the run is saved every `config.save_every` steps and resumed from; `on_step` hears
    (step, steps, loss). Several processes started by Accelerate share each batch. Raises TrainingError for a loss, gradients or weights
    that are not finite, InputError for no items or a state that belongs to another run.
    """
    if not items:
        raise InputError(
            f"There is nothing to train on: no example has an answer, or a word with a token, within {config.max_length} tokens. "
            "Raise max_length, or give other examples."
        )
    run = _Run(module, loss, items, config, collate, groups, state)
    for other in frozen:
        other.to(run.accelerator.device)
    module.train()
    for step in range(run.step, run.total):
        torch.manual_seed(_seed(config.seed, step, run.rank))
        value = run.update(step)
        after_step(step)
        run.history.losses.append(value)
        on_step(step + 1, run.total, value)
        if run.is_over_after(step, evaluate):
            break
    run.finish()
    for trained in (module, *frozen):
        trained.to("cpu")
    module.eval()
    return run.history


def num_steps(num_items: int, config: TrainingConfig) -> int:
    """Steps of a run."""
    total = math.ceil(config.epochs * math.ceil(num_items / config.batch_size))
    return min(total, config.max_steps or total)


class _Run:
    """The optimiser, the schedule and what is saved of a run."""

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        items: Sequence[Item],
        config: TrainingConfig,
        collate: Callable[[Sequence[Item]], Batch],
        groups: Sequence[dict[str, Any]],
        state: Path | None,
    ) -> None:
        self.module, self.items, self.config, self.collate, self.state = module, items, config, collate, state
        self.total, self._per_epoch = num_steps(len(items), config), math.ceil(len(items) / config.batch_size)
        grouped = {id(parameter) for group in groups for parameter in group["params"]}
        rest = [p for p in module.parameters() if p.requires_grad and id(p) not in grouped]
        all_groups = [*({"params": rest} for _ in range(bool(rest))), *groups]
        if not all_groups:
            raise InputError("There is nothing to train: every parameter of the model is frozen.")
        optimizer = torch.optim.AdamW(all_groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.accelerator = _accelerator()
        self.rank, self.num_processes = self.accelerator.process_index, self.accelerator.num_processes
        self.optimizer = optimizer
        self._warmup = max(1, round(config.warmup_ratio * self.total))
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self.wrapped = self.accelerator.prepare_model(_Step(module, loss))
        self._epoch, self._batches = -1, list[list[int]]()
        self.step, self.history, self.num_worse, self.best = 0, History(), 0, -math.inf
        self._load()

    def update(self, step: int) -> float:
        """One step of the optimiser; gives the mean loss over all processes."""
        members = self._members(step)
        own = members[self.rank :: self.num_processes]
        if not own:
            raise InputError(f"A batch of {len(members)} examples cannot be shared by {self.num_processes} processes; enlarge batch_size.")
        batch = _moved(self.collate(own), self.accelerator.device)
        self.optimizer.zero_grad(set_to_none=True)
        share = len(own) / len(members)
        loss = self.wrapped(batch, step)
        self.accelerator.backward(loss * share * self.num_processes)
        value = float(self.accelerator.reduce(loss.detach() * share, "sum"))
        self._check_finite(value, "loss", step)
        parameters = (p for g in self.optimizer.param_groups for p in g["params"])
        self._check_finite(float(nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)), "norm of the gradients", step)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * _rate(step, self._warmup, self.total)
        self.optimizer.step()
        return value

    def _check_finite(self, value: float, what: str, step: int) -> None:
        if not math.isfinite(value):
            is_saved = self.state is not None and (self.state / STATE).is_file()
            raise TrainingError(
                f"The {what} of step {step + 1} of {self.total} is {value}: training diverged. "
                f"Lower the learning rate (now {self.config.learning_rate:g}) or check the data"
                + (f"; what was saved last is in {self.state}." if is_saved else ".")
            )

    def _members(self, step: int) -> list[Item]:
        epoch, index = divmod(step, self._per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, _order(self.items, self.config.batch_size, _seed(self.config.seed, epoch, 0))
        return [self.items[i] for i in self._batches[index]]

    def is_over_after(self, step: int, evaluate: Callable[[], float] | None) -> bool:
        """At the end of an epoch score the module, and save where it is time to; whether to stop."""
        is_end = (step + 1) % self._per_epoch == 0 or step + 1 == self.total
        is_saved = is_end or (step + 1) % self.config.save_every == 0
        if is_saved:  # what the step itself made of the weights no loss has seen
            self._check_finite(float(sum(p.detach().sum() for p in self._trained().values())), "sum of the weights", step)
        is_over = evaluate is not None and is_end and self._judge(evaluate)
        if is_saved:
            self._save(step + 1, is_over=is_over)
        return is_over

    def _judge(self, evaluate: Callable[[], float]) -> bool:
        """Score the module, keep it where it is the best so far; whether to stop."""
        self.module.eval()
        with torch.no_grad():
            score = evaluate()
        self.module.train()
        self.history.scores.append(score)
        if score > self.best:
            self.best, self.num_worse = score, 0
            self._keep_best()
        else:
            self.num_worse += 1
        return self.num_worse >= self.config.patience

    def finish(self) -> None:
        """Put the best weights back, and remove nothing: the caller owns the folder."""
        if self.history.scores:
            self._restore_best()

    def _save(self, step: int, *, is_over: bool) -> None:
        if self.state is None or self.rank:
            return
        tensors = {f"module/{name}": p.detach() for name, p in self._trained().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in values.items()}
        facts = {
            "run": self._fingerprint(),
            "step": self.total if is_over else step,
            "losses": self.history.losses,
            "scores": self.history.scores,
            "best": self.best,
            "num_worse": self.num_worse,
        }
        self.state.mkdir(parents=True, exist_ok=True)
        _write(tensors, self.state / STATE, {"facts": json.dumps(facts)})

    def _load(self) -> None:
        path = None if self.state is None else self.state / STATE
        if path is None or not path.is_file():
            return
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
        if facts["run"] != self._fingerprint():
            raise InputError(
                f"{self.state} holds the state of another run ({facts['run']}), and this one is {self._fingerprint()}. "
                "Remove the folder to start anew, or give the options and the data of the run that it belongs to."
            )
        tensors = load_file(path)
        with torch.no_grad():
            for name, parameter in self._trained().items():
                parameter.copy_(tensors[f"module/{name}"])
        states: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            kind, *rest = name.split("/")
            if kind == "optimizer":
                states.setdefault(int(rest[0]), {})[rest[1]] = tensor
        self.optimizer.load_state_dict({"state": states, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.step, self.best, self.num_worse = facts["step"], facts["best"], facts["num_worse"]
        self.history = History(facts["losses"], facts["scores"])
        logger.info("Resuming from step %d of %d", self.step, self.total)

    def _fingerprint(self) -> str:
        """What must be the same for a run to be gone on with."""
        shapes = sum(p.numel() for p in self._trained().values())
        lengths = sum(item.length * (index % 97 + 1) for index, item in enumerate(self.items))
        return f"{len(self.items)} items ({lengths}), {shapes} weights, {self.config.model_dump_json()}"

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def _keep_best(self) -> None:
        """On the disk where there is a folder: memory holds one more copy of the weights only where there is none."""
        tensors = {name: p.detach() for name, p in self._trained().items()}
        if self.state is None:
            self._best_tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        elif not self.rank:
            self.state.mkdir(parents=True, exist_ok=True)
            _write(tensors, self.state / BEST, {})

    def _restore_best(self) -> None:
        self.accelerator.wait_for_everyone()
        tensors = self._best_tensors if self.state is None else load_file(self.state / BEST)
        with torch.no_grad():
            for name, parameter in self._trained().items():
                parameter.copy_(tensors[name])
        self.accelerator.wait_for_everyone()  # before the file may go


class _Step(nn.Module):
    """The loss as the forward pass of a module, which is what carries gradients from process to process."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, batch: Batch, step: int) -> torch.Tensor:
        return self.loss(batch, step)


def wait_for_everyone() -> None:
    """Of several processes that train together; a single one goes on at once."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _accelerator().wait_for_everyone()


def _accelerator() -> Any:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ModuleNotFoundError as error:
        raise MissingRuntimeError("Training needs accelerate, which is not installed: pip install 'trtbert[compress]'") from error
    return Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])


def _write(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata=metadata)
    partial.replace(path)


def _moved(batch: Batch, device: torch.device) -> Batch:
    labels = None if batch.labels is None else batch.labels.to(device)
    return Batch({name: tensor.to(device) for name, tensor in batch.inputs.items()}, labels, batch.items)


def _order(items: Sequence[Item], batch_size: int, seed: int) -> list[list[int]]:
    """The batches of an epoch: shuffled, sorted by length within pools of some batches, and the batches shuffled again."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(items), generator=generator).tolist()
    found = list[list[int]]()
    for pool in _chunks(shuffled, batch_size * _POOL):
        found += _chunks(sorted(pool, key=lambda index: items[index].length), batch_size)
    return [found[index] for index in torch.randperm(len(found), generator=generator).tolist()]


def _chunks(values: Sequence[int], size: int) -> Iterator[list[int]]:
    return (list(values[start : start + size]) for start in range(0, len(values), size))


def _seed(seed: int, number: int, rank: int) -> int:
    return (seed * 1_000_003 + number * 1_009 + rank) % 2**63


def _rate(step: int, warmup: int, total: int) -> float:
    """The share of the learning rate: up in a line, then down in a line to 0 after the last step."""
    return min(1.0, (step + 1) / warmup) * min(1.0, (total - step) / max(1, total - warmup + 1))
