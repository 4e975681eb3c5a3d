"""A model folder and the steps of a compression -> a smaller model folder, with what was done beside it."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trtbert import staging
from trtbert.checkpoint.hf_config import is_regression
from trtbert.checkpoint.hub import find_model
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.checkpoint.runner import TorchRuntime, describe
from trtbert.checkpoint.weights import sha256_of
from trtbert.compress import METHODS
from trtbert.compress.macs import count_macs, count_parameters
from trtbert.compress.method import Job, Options
from trtbert.compress.training import wait_for_everyone
from trtbert.config import CompressConfig, StepConfig, config_from_mapping
from trtbert.data import Example, Text, read_examples, read_labels, read_texts
from trtbert.errors import ConfigError, InputError, TrtbertError, UnsupportedError
from trtbert.evaluation import evaluate, metric_for
from trtbert.package import Package, check_package_output
from trtbert.pipeline import compile, resolve
from trtbert.predictor.encoder import Encoder
from trtbert.tasks import Task
from trtbert.version import __version__

FACTS = "compression.json"
_CLASSIFIED = ("text-classification", "token-classification")
_FILES = ("data", "texts", "eval_data", "teacher")
_COUNTED_LENGTH = 128
"""Tokens that MACs are counted for."""
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """What came of a compression."""

    path: Path
    facts: dict[str, Any]
    """The content of compression.json."""
    package: Package | None = None
    """What it was compiled into, if it was."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Data:
    labelled: Sequence[Example]
    texts: Sequence[Text]
    held_back: Sequence[Example]
    metric: str | None


def compress(
    model: Path | str,
    output: Path | str,
    config: CompressConfig,
    *,
    force: bool = False,
    on_stage: Callable[[str], None] = lambda _stage: None,
    on_progress: Progress = lambda _what, _done, _total: None,
) -> Compressed:
    """Run the steps of `config` one after the other and write the result into the new folder `output`; compile it into
    `output`.package where `config` says how.

    A run that was killed, while compiling too, is gone on with by the same call: what it saved is in `.NAME.training` beside the output.
    Raises a TrtbertError, and writes no output, where the model, the data or an option cannot be used, or training fails; where only
    compiling fails the model is there.
    """
    output, source = Path(output), find_model(Path(model))
    options = _check(source, output, config, force)
    with quiet():
        on_stage("reading")
        run = _Run(config, source, _state_of(output), on_progress)
    with _state_folder(output, config, options, run.checkpoint.sha256) as state:
        if not _is_written(output):
            with quiet(), _folder(output, force) as folder:
                run.write(options, folder, on_stage)
            if is_main():
                shutil.copyfile(output / FACTS, state / FACTS)
        wait_for_everyone()  # before the state may go
        facts = json.loads((output / FACTS).read_text(encoding="utf-8"))
        if config.compile is None or not is_main():
            return Compressed(path=output, facts=facts)
        return Compressed(path=output, facts=facts, package=_compile(output, config, run.checkpoint.task, force, on_stage, on_progress))


def _check(source: Path, output: Path, config: CompressConfig, force: bool) -> list[Options]:
    """The options of each step; raises what can be told before any work."""
    options = [method_options(step, f"Step {number} ({step.method})") for number, step in enumerate(config.steps, 1)]
    _check_order(config, options)
    if output.resolve() == source.resolve():
        raise InputError(f"{output} is the model itself, and a run that fails must not lose it. Choose another output.")
    if not _is_written(output):
        staging.check_output(output, force, _is_compressed)
    if config.compile is not None:
        check_package_output(_package_of(output), force)
        resolve(config.compile)
    if config.teacher is not None and not any(METHODS[step.method].has_teacher for step in config.steps):
        raise ConfigError(f"A teacher is given, and {', '.join(step.method for step in config.steps)} learns from none; leave it out.")
    return options


def _check_order(config: CompressConfig, options: Sequence[Options]) -> None:
    """ConfigError for a step that cannot follow on an earlier one, which would be told only once that one is done."""
    done = set[str]()
    for step, chosen in zip(config.steps, options, strict=True):
        if METHODS[step.method].needs_layers and "student" in done:
            raise ConfigError(f"{step.method} cannot follow on student, which leaves no transformer layers. Put it before.")
        if step.method == "heads" and "gqa" in done:
            raise ConfigError(f"{step.method} cannot follow on replace with gqa, whose heads share keys and values. Put it before.")
        if METHODS[step.method].has_teacher and config.teacher is None and "vocabulary" in done:
            raise ConfigError(
                f"{step.method} cannot follow on vocabulary, for the teacher, which is the model as it came, has all tokens. Put it before."
            )
        done |= {step.method, getattr(chosen, "successor", "")}


def _check_teacher_of_new_head(config: CompressConfig, task: Task) -> None:
    """ConfigError where a step would learn from a head that no step has trained."""
    methods = [step.method for step in config.steps]
    taught = next((index for index, method in enumerate(methods) if METHODS[method].has_teacher), None)
    if taught is not None and config.teacher is None and "finetune" not in methods[:taught]:
        raise ConfigError(
            f"The model has no head for {task}, so there is nothing that {methods[taught]} could learn from: put finetune before it, whose "
            "result is the teacher then, or give one with --teacher."
        )


def _package_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.package")


def _compile(
    model: Path, config: CompressConfig, task: Task, force: bool, on_stage: Callable[[str], None], on_progress: Progress
) -> Package:
    assert config.compile is not None
    package = _package_of(model)
    chosen = config.compile if config.compile.task != "auto" else config.compile.model_copy(update={"task": task})
    if chosen.precision == "int8" and chosen.calibration_data is None and chosen.calibration_cache is None and config.data is not None:
        chosen = chosen.model_copy(update={"calibration_data": config.data, "text_column": config.text_column})
    try:
        return compile(model, package, chosen, force=force, on_stage=on_stage, on_progress=on_progress)
    except TrtbertError as error:
        raise type(error)(
            f"{error}\nThe compressed model itself is in {model}: compile it by itself (trtbert compile {model} -o {package} ...)."
        ) from error


def is_main() -> bool:
    """Of several processes that train together, as Accelerate and torchrun number them, the first one writes."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _folder(output: Path, force: bool) -> Iterator[Path]:
    """The folder that becomes the output; of the other processes one that is thrown away."""
    if is_main():
        with staging.staged(output, force=force, is_replaceable=_is_compressed) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def _is_compressed(folder: Path) -> bool:
    return (folder / FACTS).is_file()


def method_options(step: StepConfig, name: str = "The configuration") -> Options:
    """The options of a step's method, checked; ConfigError, which begins with `name`, lists what is wrong."""
    if step.method not in METHODS:
        raise ConfigError(f"There is no compression method {step.method!r}; choose one of {', '.join(METHODS)}.")
    return config_from_mapping(step.options, METHODS[step.method].options, name=name)


class _Run:
    """The model as the steps so far left it, and what the steps share."""

    def __init__(self, config: CompressConfig, source: Path, state: Path, on_progress: Progress) -> None:
        self.config, self.state, self.on_progress = config, state, on_progress
        self.checkpoint, self.data, has_new_head = _read(source, config)
        self.teacher = config.teacher or source
        if has_new_head:
            _check_teacher_of_new_head(config, self.checkpoint.task)
        if has_new_head and config.teacher is None:
            self.teacher = self._finished(next((i for i, step in enumerate(config.steps) if step.method == "finetune"), 0))

    def write(self, options: Sequence[Options], folder: Path, on_stage: Callable[[str], None]) -> None:
        """Run the steps that are not finished yet; the model that the last one leaves and the facts of all go into `folder`.

        The model goes from step to step by way of the state folder, so that where a run was killed makes no difference to what it writes.
        """
        is_finished = [(self._finished(index) / FACTS).is_file() for index in range(len(options))]
        wait_for_everyone()  # before one of them finishes a step: all must find the same
        before, steps = self._describe(), []
        for index, (step, chosen) in enumerate(zip(self.config.steps, options, strict=True)):
            on_stage(step.method)
            finished = self._finished(index)
            if not is_finished[index]:
                self._finish(step, chosen, finished)
            self.checkpoint = read_checkpoint(finished, task=self.checkpoint.task)
            steps.append(json.loads((finished / FACTS).read_text(encoding="utf-8")))
        shutil.copytree(finished, folder, dirs_exist_ok=True)
        facts = _facts(self.config, before, self._describe(), steps)
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    def _finished(self, index: int) -> Path:
        """The folder that holds the model after the step, and the facts of it, once it is done."""
        return self.state / f"{index + 1}-{self.config.steps[index].method}" / "finished"

    def _finish(self, step: StepConfig, options: Options, finished: Path) -> None:
        method = METHODS[step.method]
        job = Job(
            checkpoint=self.checkpoint,
            teacher=self._teacher() if method.has_teacher else None,
            labelled=self.data.labelled,
            texts=self.data.texts,
            training=step.training,
            evaluate=self._score() if self.data.held_back else None,
            state=finished.parent,
            on_step=self.on_progress,
        )
        torch.manual_seed(step.training.seed)
        result = method.run(job, options)
        notes = [*result.notes, *self._missing_labels()] if method.is_trained else list(result.notes)
        facts = {"method": step.method, "options": options.model_dump(mode="json"), "notes": notes, **result.facts}
        if method.is_trained:
            facts["training"] = step.training.model_dump()
        if is_main():
            _write_finished(result.checkpoint, facts, finished)
        wait_for_everyone()  # before they read it

    def _missing_labels(self) -> Iterator[str]:
        """A sentence on the classes or tags that no labelled example has, if there are such."""
        if not self.data.labelled or self.checkpoint.task not in _CLASSIFIED or is_regression(self.checkpoint.model.config):
            return
        found = {label for example in self.data.labelled for label in example.label}
        if missing := [label for label in self.checkpoint.labels if label not in found]:
            shown = f"{', '.join(missing[:5])}{', ...' * (len(missing) > 5)}"
            yield f"{len(missing)} of {len(self.checkpoint.labels)} labels have no example: {shown}"

    def _describe(self) -> dict[str, Any]:
        """Size, cost and score of the model; MACs of families whose layers are known."""
        model = self.checkpoint.model
        facts: dict[str, Any] = {
            "parameters": count_parameters(model),
            "macs": self._macs(model),
            "layers": model.config.to_dict().get("num_hidden_layers", model.config.to_dict().get("n_layers")),
        }
        if self.data.held_back:
            facts[self.data.metric or ""] = round(self._score()(model), 2)
        return facts

    def _macs(self, model: Any) -> int | None:
        try:
            return count_macs(model, length=_COUNTED_LENGTH)
        except UnsupportedError:
            return None

    def _teacher(self) -> Checkpoint:
        """The model named, the one that came, or where that had no head the finetuned one; read anew: a step may have changed it."""
        return read_checkpoint(find_model(self.teacher), task=self.checkpoint.task)

    def _score(self) -> Callable[[Any], float]:
        checkpoint = self.checkpoint
        with tempfile.TemporaryDirectory() as name:
            facts = describe(checkpoint, Path(name))
            encoder = Encoder(facts, TorchRuntime(checkpoint), tokenizer=Path(name, facts.tokenizer.file))

        def score(model: Any) -> float:
            encoder.runtime = TorchRuntime(checkpoint, model)
            return evaluate(encoder, self.data.held_back, self.data.metric or "")

        return score


def _read(folder: Path, config: CompressConfig) -> tuple[Checkpoint, _Data, bool]:
    """The model, the data, and whether the model got a new head."""
    is_labelled = config.data is not None and config.data.suffix.lower() != ".txt"
    checkpoint, has_new_head = _read_model(folder, config, is_labelled)
    is_number = checkpoint.task == "text-classification" and is_regression(checkpoint.model.config)
    column = config.text_column

    def examples(path: Path) -> list[Example]:
        return read_examples(path, checkpoint.task, labels=checkpoint.labels, column=column, is_number=is_number)

    labelled = examples(config.data) if config.data is not None and is_labelled else []
    plain = config.texts or (config.data if not is_labelled else None)
    texts = list(read_texts(plain, column=column)) if plain is not None else []
    held_back = [] if config.eval_data is None else examples(config.eval_data)
    metric = None if not held_back else metric_for(checkpoint.task, held_back) if config.metric == "auto" else config.metric
    return checkpoint, _Data(labelled=labelled, texts=texts, held_back=held_back, metric=metric), has_new_head


def _read_model(folder: Path, config: CompressConfig, is_labelled: bool) -> tuple[Checkpoint, bool]:
    """With a new head where a classification was named and the model has none; a head that was trained is never thrown away."""
    try:
        return read_checkpoint(folder, task=config.task), False
    except InputError:
        if config.task == "auto" or config.task not in _CLASSIFIED or config.data is None or not is_labelled:
            raise
        if not (folder / "config.json").is_file():
            raise
    labels = read_labels(config.data, config.task, column=config.text_column)
    return read_checkpoint(folder, task=config.task, new_labels=labels, seed=config.steps[0].training.seed), True


def _state_of(output: Path) -> Path:
    return output.resolve().parent / f".{output.resolve().name}.training"


def _is_written(output: Path) -> bool:
    """Whether the output is that of the run whose state is beside it: there is nothing left to do but to compile it."""
    kept, written = _state_of(output) / FACTS, output / FACTS
    return kept.is_file() and written.is_file() and kept.read_bytes() == written.read_bytes()


@contextmanager
def _state_folder(output: Path, config: CompressConfig, options: Sequence[Options], sha256: str) -> Iterator[Path]:
    """The folder of this run, new or of the same run that was killed; it stays where the run fails after it saved anything.

    InputError for a run of something else, and while another process works in it.
    """
    folder = _state_of(output)
    if not is_main():
        yield folder
        return
    facts = {"config": config.model_dump(mode="json"), "model": sha256, "sha256": _contents(config, options)}
    run = json.dumps(facts, indent=1, sort_keys=True)
    with _locked(folder, output):
        marker = folder / "run.json"
        if marker.is_file() and marker.read_text(encoding="utf-8") != run:
            raise InputError(
                f"{folder} holds the state of a run with other options, other data or another model. Remove it to start anew (rm -r "
                f"{folder}), or repeat the command that made it, which then goes on."
            )
        marker.write_text(run, encoding="utf-8")
        try:
            yield folder
        except BaseException as error:
            is_in_vain = isinstance(error, TrtbertError) and _is_written(output)  # what could not be compiled will not be next time
            if is_in_vain or not any(path.is_file() and path != marker for path in folder.rglob("*")):
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


def _contents(config: CompressConfig, options: Sequence[Options]) -> dict[str, str]:
    """The hash of each file, and of the files in each model folder, that the run reads beside its model."""
    values = [getattr(config, name) for name in _FILES] + [value for chosen in options for _, value in chosen]
    paths = [path for value in values for path in (value if isinstance(value, tuple) else (value,)) if isinstance(path, Path)]
    return {str(path): sha256_of([path] if path.is_file() else sorted(filter(Path.is_file, path.glob("*")))) for path in paths}


@contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot write in {folder.parent}: {error.strerror}. Choose another output.") from error
    lock = staging.try_lock(folder)
    if lock is None:
        raise InputError(f"Another process compresses into {output} now. Wait for it, or choose another output.")
    try:
        yield
    finally:
        os.close(lock)


def _write_finished(checkpoint: Checkpoint, facts: Mapping[str, Any], finished: Path) -> None:
    partial = finished.with_name("partial")
    shutil.rmtree(partial, ignore_errors=True)
    write_checkpoint(checkpoint, partial)
    (partial / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    partial.rename(finished)


def _facts(config: CompressConfig, before: dict[str, Any], after: dict[str, Any], steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "trtbert_version": __version__,
        "data": {name: str(path) for name in _FILES if (path := getattr(config, name)) is not None},
        "before": before,
        "after": after,
        "steps": steps,
    }
