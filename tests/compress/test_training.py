"""The training loop: what it learns, in what order, and that an interruption changes nothing."""

import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.compress.models import classified, tiny
from trtbert.checkpoint.read import Checkpoint
from trtbert.compress import training
from trtbert.compress.batches import Batch, Item, collate, encode_examples
from trtbert.compress.objectives import task_losses
from trtbert.compress.training import History, train
from trtbert.config import TrainingConfig
from trtbert.errors import InputError, TrainingError

CONFIG = TrainingConfig(epochs=2, batch_size=8, learning_rate=1e-3, save_every=3, seed=5)


class Killed(Exception):
    pass


def run(checkpoint: Checkpoint, config: TrainingConfig = CONFIG, **options: Any) -> History:
    items = encode_examples(checkpoint, options.pop("examples", classified(30)))
    loss = options.pop("loss", lambda batch, _step: task_losses(checkpoint, batch).mean())
    return train(checkpoint.model, loss, items, config, collate=lambda members: collate(checkpoint, members), **options)


def kill_at(step: int) -> Callable[[int, int, float], None]:
    def on_step(done: int, _total: int, _loss: float) -> None:
        if done == step:
            raise Killed

    return on_step


def weights(checkpoint: Checkpoint) -> list[torch.Tensor]:
    return [parameter.detach().to("cpu", copy=True) for parameter in checkpoint.model.parameters()]


def test_it_learns(tmp_path: Path) -> None:
    history = run(tiny(tmp_path), CONFIG.model_copy(update={"epochs": 20, "learning_rate": 3e-3}))
    assert len(history.losses) == 80
    assert sum(history.losses[-4:]) < 0.3 * sum(history.losses[:4])


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 7, 8])
def test_a_killed_run_ends_as_if_it_had_not_been(step: int, tmp_path: Path) -> None:
    """Dropout is on, so that every random number counts; evaluation keeps the best of the epochs."""
    scores = iter([1.0, 0.5])
    whole = tiny(tmp_path / "model")
    expected = run(whole, evaluate=lambda: next(scores))
    killed, again = tiny(tmp_path / "model"), iter([1.0, 0.5])
    with pytest.raises(Killed):
        run(killed, evaluate=lambda: next(again), state=tmp_path / "state", on_step=kill_at(step))
    resumed = tiny(tmp_path / "model")
    rest = iter([1.0, 0.5] if step < 5 else [0.5])
    found = run(resumed, evaluate=lambda: next(rest), state=tmp_path / "state")
    assert found == expected
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True))


@pytest.mark.parametrize("patience", [1, 2])
def test_a_run_that_is_over_is_not_run_again(patience: int, tmp_path: Path) -> None:
    """After all of its three epochs, or after the second one, which is worse than the first."""
    config = CONFIG.model_copy(update={"epochs": 3, "patience": patience})
    checkpoint, scores = tiny(tmp_path / "model"), iter([1.0, 0.5, 0.4][: patience + 1])
    expected = run(checkpoint, config, evaluate=lambda: next(scores), state=tmp_path / "state")
    again = tiny(tmp_path / "model")
    assert run(again, config, evaluate=lambda: next(scores), state=tmp_path / "state", on_step=kill_at(1)) == expected
    assert all(torch.equal(a, b) for a, b in zip(weights(again), weights(checkpoint), strict=True))


def test_epochs_without_a_better_score_are_counted_over_an_interruption(tmp_path: Path) -> None:
    """Two of them end the run, one before it was killed and one after it went on."""
    config, scores = CONFIG.model_copy(update={"epochs": 5, "patience": 2}), iter([1.0, 0.5, 0.4])
    with pytest.raises(Killed):
        run(tiny(tmp_path / "model"), config, evaluate=lambda: next(scores), state=tmp_path / "state", on_step=kill_at(9))
    history = run(tiny(tmp_path / "model"), config, evaluate=lambda: next(scores), state=tmp_path / "state")
    assert history.scores == [1.0, 0.5, 0.4]


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    run(tiny(tmp_path / "model"), state=tmp_path / "state")
    other_rate = {"config": CONFIG.model_copy(update={"learning_rate": 2e-3})}
    for other in (other_rate, {"examples": classified(33)[3:]}):
        with pytest.raises(InputError, match=r"holds the state of another run.*Remove the folder to start anew"):
            run(tiny(tmp_path / "model"), **other, state=tmp_path / "state")


def test_the_same_seed_gives_the_same_and_another_another(tmp_path: Path) -> None:
    first, second = run(tiny(tmp_path)), run(tiny(tmp_path))
    assert first == second
    assert first != run(tiny(tmp_path), CONFIG.model_copy(update={"seed": 6}))


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    def loss(batch: Batch, step: int) -> torch.Tensor:
        value = task_losses(checkpoint, batch).mean()
        return value * torch.nan if step == 4 else value

    checkpoint = tiny(tmp_path / "model")
    with pytest.raises(TrainingError, match=r"The loss of step 5 of 8 is nan: training diverged. Lower the learning rate \(now 0.001\)"):
        run(checkpoint, loss=loss, state=tmp_path / "state")
    assert (tmp_path / "state" / training.STATE).is_file(), "what was reached before is kept"
    assert all(torch.isfinite(tensor).all() for tensor in weights(checkpoint))


def test_gradients_that_are_not_finite(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    with pytest.raises(TrainingError, match="The norm of the gradients of step 1 of 8 is nan: training diverged"):
        run(checkpoint, loss=lambda batch, _step: (task_losses(checkpoint, batch).mean() * 0).sqrt())
    assert all(torch.isfinite(tensor).all() for tensor in weights(checkpoint))


def test_weights_that_the_last_step_spoilt(tmp_path: Path) -> None:
    """No loss sees them any more, and without this they would be the result."""
    checkpoint = tiny(tmp_path / "model")

    def spoil(step: int) -> None:
        if step == 7:
            next(checkpoint.model.parameters()).data[0] = torch.inf

    with pytest.raises(TrainingError, match="The sum of the weights of step 8 of 8 is inf: training diverged"):
        run(checkpoint, after_step=spoil, evaluate=lambda: 1.0, state=tmp_path / "state")


def test_the_best_epoch_wins_and_ends_the_run(tmp_path: Path) -> None:
    checkpoint, kept = tiny(tmp_path), []
    scores = iter([0.1, 0.9, 0.9, 0.7, 0.6])  # of equal ones the first is the best

    def evaluate() -> float:
        assert not checkpoint.model.training
        kept.append(weights(checkpoint))
        return next(scores)

    history = run(checkpoint, CONFIG.model_copy(update={"epochs": 10, "patience": 2}), evaluate=evaluate)
    assert history.scores == [0.1, 0.9, 0.9, 0.7]
    assert all(torch.equal(a, b) for a, b in zip(weights(checkpoint), kept[1], strict=True))
    assert not checkpoint.model.training


def test_every_item_comes_once_an_epoch_with_others_of_its_length(tmp_path: Path) -> None:
    items = [Item(([0] * (3 + index % 40),), ([0],)) for index in range(320)]
    first, second = (training._order(items, 8, seed) for seed in (1, 2))
    assert sorted(chain(*first)) == list(range(320)) == sorted(chain(*second))
    assert first != second
    padding = sum(max(items[i].length for i in batch) * len(batch) - sum(items[i].length for i in batch) for batch in first)
    assert padding < 0.1 * sum(item.length for item in items)


def test_every_epoch_has_its_own_order(tmp_path: Path) -> None:
    checkpoint, seen = tiny(tmp_path), list[list[int]]()

    def loss(batch: Batch, _step: int) -> torch.Tensor:
        seen.append([id(item) for item in batch.items])
        return task_losses(checkpoint, batch).mean()

    run(checkpoint, loss=loss)
    assert sorted(chain(*seen[:4])) == sorted(chain(*seen[4:])) and seen[:4] != seen[4:]


def test_the_rate_goes_up_and_down_in_lines() -> None:
    rates = [training._rate(step, 2, 6) for step in range(6)]
    assert rates == pytest.approx([0.5, 1.0, 0.8, 0.6, 0.4, 0.2])


def test_weights_without_a_gradient_decay_by_the_rate_of_each_step(tmp_path: Path) -> None:
    """AdamW: w - rate x decay x w. Half of the four steps warm up."""
    checkpoint = tiny(tmp_path)
    config = CONFIG.model_copy(update={"max_steps": 4, "learning_rate": 0.1, "weight_decay": 0.5, "warmup_ratio": 0.5})
    weight = checkpoint.model.classifier.weight
    before = weight.detach().clone()
    run(checkpoint, config, loss=lambda _batch, _step: (weight * 0).sum())
    shares = [1 - 0.1 * 0.5 * rate for rate in (0.5, 1.0, 2 / 3, 1 / 3)]
    torch.testing.assert_close(weight.detach(), before * math.prod(shares))


def test_gradients_are_clipped(tmp_path: Path) -> None:
    """To a norm beside which AdamW's epsilon of 1e-8 is large, so that hardly anything moves."""
    checkpoint = tiny(tmp_path)
    before = weights(checkpoint)
    run(checkpoint, CONFIG.model_copy(update={"max_grad_norm": 1e-12, "weight_decay": 0.0}))
    assert max(float((a - b).abs().max()) for a, b in zip(weights(checkpoint), before, strict=True)) < 1e-5


def test_groups_have_their_own_rate(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    before = weights(checkpoint)
    head = list(checkpoint.model.classifier.parameters())
    run(checkpoint, CONFIG.model_copy(update={"max_steps": 1}), groups=[{"params": head, "lr": 0.0}])
    names = [name for name, _ in checkpoint.model.named_parameters()]
    changed = {name for name, a, b in zip(names, before, weights(checkpoint), strict=True) if not torch.equal(a, b)}
    assert changed and not any(name.startswith("classifier") for name in changed)


def test_nothing_to_train(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    with pytest.raises(InputError, match="no example has an answer, or a word with a token, within 128 tokens"):
        train(checkpoint.model, lambda _b, _s: torch.tensor(0.0), [], CONFIG, collate=lambda items: collate(checkpoint, items))
    checkpoint.model.requires_grad_(False)
    with pytest.raises(InputError, match="every parameter of the model is frozen"):
        run(checkpoint)


SCRIPT = """
import sys
from pathlib import Path
import torch
from tests.compress.test_training import CONFIG, run
from tests.compress.models import tiny
torch.set_num_threads(1)
print("losses", *run(tiny(Path(sys.argv[1]))).losses)
"""


def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    """Each process takes half of every batch; without dropout the curve is that of one process."""
    alone = run(tiny(tmp_path / "model", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)).losses
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # What torchrun and `accelerate launch` set for each of their processes.
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    both = _curves([_start(script, tmp_path / "model", shared | {"RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")])
    assert both[0] == both[1], "each process knows the loss of both"
    assert both[0] == pytest.approx(alone, rel=1e-4)


def _start(script: Path, model: Path, environment: dict[str, str]) -> "subprocess.Popen[str]":
    variables = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen([sys.executable, script, model], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def _curves(processes: "list[subprocess.Popen[str]]") -> list[list[float]]:
    curves = []
    for process in processes:
        printed, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        (line,) = [line for line in printed.splitlines() if line.startswith("losses")]
        curves.append([float(loss) for loss in line.split()[1:]])
    return curves
