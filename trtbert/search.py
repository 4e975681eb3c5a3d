"""The smallest of a ladder of shapes whose accuracy and measured latency are within what was asked for -> a model folder."""

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trtbert import staging
from trtbert.architectures import STUDENT
from trtbert.checkpoint.hf_config import read_config
from trtbert.checkpoint.hub import find_model
from trtbert.checkpoint.modules import encoder_folder
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import read_checkpoint
from trtbert.compress.ladder import Shape, shapes
from trtbert.compression import FACTS, Compressed, compress
from trtbert.config import CompileConfig, CompressConfig, SearchConfig, StepConfig, TrainingConfig
from trtbert.errors import ConfigError, UnsupportedError, VerificationError
from trtbert.package import Package
from trtbert.pipeline import compile
from trtbert.runtime import open_runtime

_WARM_UP, _RUNS = 5, 30


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
    """Write the smallest model of the ladder, by MACs, that is within the budget into the folder `output`.

    `data` are the fields of CompressConfig but for the steps; eval_data is needed. Latency is measured on packages of the untrained shapes,
    for it does not depend on the weights; accuracy after training. Accuracy is taken to fall with the MACs, so that halving finds the end
    with three or four trainings. Where it does not, what is found is within the budget all the same, but a smaller model
    may be, too; or a search says that none is, though one smaller than those it trained would be. Raises VerificationError, with all that
    was tried, where no model is within the budget, UnsupportedError for a model that is no transformer with parts that can go.
    """
    if data.get("eval_data") is None or data.get("data") is None:
        raise ConfigError("A search trains on labelled examples and scores on others: give --data and --eval-data.")
    source = find_model(Path(model))
    with staging.staged(Path(output), force=force, is_replaceable=lambda path: (path / FACTS).is_file()) as folder:
        on_stage("reading")
        ladder = _shapes(source, config)
        with tempfile.TemporaryDirectory(prefix=".search-", dir=folder) as scratch:
            tried = _Tried(source, ladder, Path(scratch), data, config, training, on_stage, on_progress)
            best = tried.smallest()
            shutil.copytree(tried.path(best), folder, dirs_exist_ok=True)
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8")) | {"search": tried.rows}
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return Compressed(path=Path(output), facts=facts)


def _shapes(source: Path, config: SearchConfig) -> list[Shape]:
    """The ladder of an encoder, without the head of its task, which stays as it is."""
    if read_config(encoder_folder(source)).model_type == STUDENT:
        raise UnsupportedError(
            f"--search makes transformers smaller, and {source} is a recurrent student. Give the transformer that it learned from, or "
            "train a smaller student with --method student."
        )
    with quiet():
        found = shapes(read_checkpoint(source, task="feature-extraction"), config.tokens)
    if not found:
        raise UnsupportedError(f"{source} has one layer with one head and one neuron: there is nothing smaller to search for.")
    return found


def fast_of(shapes: Sequence[Shape], is_fast: Callable[[int], bool]) -> list[int]:
    """The numbers of the shapes that are fast enough.

    Few MACs in many layers may take longer than more of them in few. So one measured shape tells of another only where one of both has no
    more layers, heads and neurons than the other: what is within a fast one is fast, and what a slow one is within is slow.
    """
    known = dict[int, bool]()
    while left := [index for index in range(len(shapes)) if index not in known]:
        middle = left[len(left) // 2]
        known[middle] = is_fast(middle)
        for other in left:
            smaller, larger = (other, middle) if known[middle] else (middle, other)
            if shapes[smaller].is_within(shapes[larger]):
                known[other] = known[middle]
    return [index for index in range(len(shapes)) if known[index]]


def last_of(count: int, holds: Callable[[int], bool]) -> int | None:
    """The last of the numbers from 0 for which something holds that holds up to some number and for none after it; by halving."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if holds(middle) else (low, middle)
    return low - 1 if low else None


class _Tried:
    """Shapes that were measured or trained."""

    def __init__(
        self,
        model: Path,
        shapes: Sequence[Shape],
        scratch: Path,
        data: dict[str, Any],
        config: SearchConfig,
        training: TrainingConfig,
        on_stage: Callable[[str], None],
        on_progress: Callable[[str, int, int | None], None],
    ) -> None:
        self.model, self.shapes, self.scratch, self.data, self.config, self.training = model, shapes, scratch, data, config, training
        self.on_stage, self.on_progress = on_stage, on_progress
        self.rows: list[dict[str, Any]] = []

    def path(self, index: int) -> Path:
        return self.scratch / f"trained-{index}"

    def smallest(self) -> int:
        """Of the shapes that are fast enough the last one that loses no more than it may."""
        fast = list(range(len(self.shapes))) if self.config.target_latency is None else fast_of(self.shapes, self._is_fast)
        if not fast:
            raise VerificationError(f"No model of the ladder is within {self.config.target_latency} ms:\n{self._table()}")
        found = last_of(len(fast), lambda place: self._is_good(fast[place]))
        if found is None:
            raise VerificationError(
                f"The largest model that is fast enough loses more than max_drop {self.config.max_drop:g}:\n{self._table()}\n"
                "Raise max_drop or the target latency, or train longer."
            )
        return fast[found]

    def _is_fast(self, index: int) -> bool:
        assert self.config.target_latency is not None
        self.on_stage(f"latency of model {index + 1} of {len(self.shapes)}")
        folder = self.scratch / f"shape-{index}"
        compress(self.model, folder, self._config(index, is_trained=False))
        milliseconds = self._latency(folder)
        shutil.rmtree(folder)
        self.rows.append({**self.shapes[index].sizes, "milliseconds": round(milliseconds, 3)})
        return milliseconds <= self.config.target_latency

    def _is_good(self, index: int) -> bool:
        self.on_stage(f"training of model {index + 1} of {len(self.shapes)}")
        facts = compress(self.model, self.path(index), self._config(index, is_trained=True), on_progress=self.on_progress).facts
        (metric,) = set(facts["after"]) - {"parameters", "macs", "layers"}
        drop = facts["before"][metric] - facts["after"][metric]
        self.rows.append({**self.shapes[index].sizes, metric: facts["after"][metric], "lost": round(drop, 2)})
        return bool(drop <= self.config.max_drop)

    def _config(self, index: int, *, is_trained: bool) -> CompressConfig:
        """Of an untrained shape nothing is learnt or scored, and what goes is any part."""
        num_texts = 512 if is_trained else 1
        steps = [step | ({} if step["method"] == "depth" else {"num_texts": num_texts}) for step in self.shapes[index].steps]
        if is_trained:
            steps.append({"method": "distill", "temperature": 2.0})
        data = self.data if is_trained else self.data | {"teacher": None, "eval_data": None}
        return CompressConfig(steps=tuple(StepConfig(**step, training=self.training) for step in steps), **data)

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
