"""The smallest of a ladder of recipes whose accuracy and measured latency are within what was asked for -> a model folder."""

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtbert import staging
from trtbert.checkpoint.hub import find_model
from trtbert.compression import FACTS, Compressed, compress
from trtbert.config import CompileConfig, CompressConfig, SearchConfig, StepConfig, TrainingConfig
from trtbert.errors import ConfigError, VerificationError
from trtbert.package import Package
from trtbert.pipeline import compile
from trtbert.runtime import open_runtime

_WARM_UP, _RUNS = 5, 30


@dataclass(frozen=True)
class Rung:
    """Shares that stay of the layers, and that go of the heads and of the neurons of those."""

    layers: float
    heads: float
    ffn: float


LADDER = (
    Rung(1, 0.25, 0.25),
    Rung(1, 0.4, 0.5),
    Rung(2 / 3, 0, 0),
    Rung(2 / 3, 0.4, 0.5),
    Rung(1 / 2, 0, 0),
    Rung(1 / 2, 0.4, 0.5),
    Rung(1 / 3, 0, 0),
    Rung(1 / 3, 0.4, 0.5),
)
"""From the largest model to the smallest; each is distilled from the model as it came."""


def search(
    model: Path | str,
    output: Path | str,
    data: dict[str, Any],
    config: SearchConfig,
    training: TrainingConfig,
    *,
    force: bool = False,
    on_stage: Callable[[str], None] = lambda _stage: None,
    on_progress: Callable[[str, int, int | None], None] = lambda _what, _done, _total: None,
) -> Compressed:
    """Write the smallest model of the LADDER that is within the budget into the folder `output`.

    `data` are the fields of CompressConfig but for the steps; eval_data is needed. Latency is measured on packages of the untrained
    shapes, for it does not depend on the weights; accuracy after training. Both are taken to fall from rung to rung, so that halving
    finds the end: about three trainings. Raises VerificationError, with all that was tried, where no rung is within the budget.
    """
    if data.get("eval_data") is None or data.get("data") is None:
        raise ConfigError("A search trains on labelled examples and scores on others: give --data and --eval-data.")
    source = find_model(Path(model))
    with staging.staged(Path(output), force=force, is_replaceable=lambda path: (path / FACTS).is_file()) as folder:
        with tempfile.TemporaryDirectory(prefix=".search-", dir=folder) as scratch:
            tried = _Tried(source, Path(scratch), data, config, training, on_stage, on_progress)
            best = tried.smallest()
            shutil.copytree(tried.path(best), folder, dirs_exist_ok=True)
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8")) | {"search": tried.rows}
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return Compressed(path=Path(output), facts=facts)


class _Tried:
    """Rungs that were measured or trained."""

    def __init__(
        self,
        model: Path,
        scratch: Path,
        data: dict[str, Any],
        config: SearchConfig,
        training: TrainingConfig,
        on_stage: Callable[[str], None],
        on_progress: Callable[[str, int, int | None], None],
    ) -> None:
        self.model, self.scratch, self.data, self.config, self.training = model, scratch, data, config, training
        self.on_stage, self.on_progress = on_stage, on_progress
        self.rows: list[dict[str, Any]] = []

    def path(self, index: int) -> Path:
        return self.scratch / f"trained-{index}"

    def smallest(self) -> int:
        """The last rung of those that are fast enough whose loss is within the budget."""
        first = self._first(self._is_fast)
        if first == len(LADDER):
            raise VerificationError(f"No model of the ladder is within {self.config.target_latency} ms:\n{self._table()}")
        low, high = first, len(LADDER)  # low - 1 is within the budget or before the first; high is not
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._is_good(middle) else (low, middle)
        if low == first:
            raise VerificationError(
                f"The largest model that is fast enough loses more than max_drop {self.config.max_drop:g}:\n{self._table()}\n"
                "Raise max_drop or the target latency, or train longer."
            )
        return low - 1

    def _first(self, holds: Callable[[int], bool]) -> int:
        """By halving, for what holds from some rung on."""
        low, high = 0, len(LADDER)
        while low < high and self.config.target_latency is not None:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(middle) else (middle + 1, high)
        return low

    def _is_fast(self, index: int) -> bool:
        assert self.config.target_latency is not None
        self.on_stage(f"latency of rung {index + 1} of {len(LADDER)}")
        folder = self.scratch / f"shape-{index}"
        compress(self.model, folder, self._config(index, is_trained=False))
        milliseconds = self._latency(folder)
        self.rows.append({**vars(LADDER[index]), "milliseconds": round(milliseconds, 3)})
        return milliseconds <= self.config.target_latency

    def _is_good(self, index: int) -> bool:
        self.on_stage(f"training of rung {index + 1} of {len(LADDER)}")
        facts = compress(self.model, self.path(index), self._config(index, is_trained=True), on_progress=self.on_progress).facts
        (metric,) = set(facts["after"]) - {"parameters", "macs", "layers"}
        drop = facts["before"][metric] - facts["after"][metric]
        self.rows.append({**vars(LADDER[index]), metric: facts["after"][metric], "lost": round(drop, 2)})
        return bool(drop <= self.config.max_drop)

    def _config(self, index: int, *, is_trained: bool) -> CompressConfig:
        rung = LADDER[index]
        steps: list[dict[str, Any]] = []
        if rung.layers < 1:
            steps.append({"method": "depth", "num_layers": max(1, round(rung.layers * self._num_layers()))})
        if rung.heads:
            steps.append({"method": "heads", "sparsity": rung.heads, "num_texts": 512 if is_trained else 1})
        if rung.ffn:
            steps.append({"method": "ffn", "sparsity": rung.ffn, "num_texts": 512 if is_trained else 1})
        if is_trained:
            steps.append({"method": "distill", "temperature": 2.0})
        return CompressConfig(steps=tuple(StepConfig(**step, training=self.training) for step in steps), **self.data)

    def _num_layers(self) -> int:
        options = json.loads((self.model / "config.json").read_text(encoding="utf-8"))
        return int(options.get("num_hidden_layers") or options["n_layers"])

    def _latency(self, folder: Path) -> float:
        package = compile(folder, self.scratch / "package", CompileConfig(precision=self.config.precision), force=True)
        return latency(package, self.config.tokens)

    def _table(self) -> str:
        return "\n".join(f"  {row}" for row in self.rows)


def latency(package: Package, tokens: int) -> float:
    """The median milliseconds of one text of so many tokens."""
    runtime = open_runtime(package)
    feeds = {tensor.name: np.ones((1, tokens), np.int32) for tensor in runtime.inputs}
    feeds |= {name: np.zeros((1, tokens), np.int32) for name in feeds if name == "token_type_ids"}
    times = []
    for _ in range(_WARM_UP + _RUNS):
        start = time.perf_counter()
        runtime.run(feeds)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[_WARM_UP:])
