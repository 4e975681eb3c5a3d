"""Packages and the libraries to run their source models with -> contenders, loaded and known to answer alike."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from trtbert import verify
from trtbert.benchmark import contender
from trtbert.benchmark.config import Library
from trtbert.benchmark.contender import Contender
from trtbert.config import Precision
from trtbert.errors import InputError, MissingRuntimeError, TrtbertError, UnsupportedError, VerificationError
from trtbert.package import Package
from trtbert.verify import Feeds
from trtbert.worker_process import Worker, worker

Progress = Callable[[str, int, int | None], None]
_WHAT: dict[Library, str] = {
    "torch": "PyTorch eager, float32, CPU, with its fused attention where the model has it; its pooling or softmax is not timed",
    "onnxruntime": "the plain export on ONNX Runtime with all its optimisations, float32, CPU",
    "openvino": "the plain export on OpenVINO, float32, CPU",
}
_ADVICE = "It had too little memory, or its library has a fault: leave it out."
_PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""From the finest to the coarsest."""


@dataclass(frozen=True, kw_only=True)
class Racer:
    """A contender, loaded in its process."""

    contender: Contender
    worker: Worker
    what: str
    precision: Precision

    @property
    def name(self) -> str:
        return self.contender.name

    def load(self, threads: int) -> None:
        """Anew, where it was loaded before; see `contender.load`."""
        self.worker.call(contender.load, self.contender, threads)

    def answer(self, feeds: Feeds) -> Feeds:
        answers: Feeds = self.worker.call(contender.answer, feeds)
        return answers


@dataclass(frozen=True, kw_only=True)
class Group:
    """The packages of one source model and task, after the other ways to run it."""

    packages: Mapping[str, Package]
    racers: Sequence[Racer]

    @property
    def baseline(self) -> Racer | None:
        """The first of the other ways, if there is one."""
        return self.racers[0] if self.racers[0].contender.library is not None else None

    @property
    def package(self) -> Package:
        """One of them: they take the same inputs."""
        return next(iter(self.packages.values()))


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Contenders that cannot run here, and why."""

    names: list[str]
    why: str


class Field:
    """Starts contenders, in processes that end with `stack`."""

    def __init__(self, stack: ExitStack, scratch: Path, threads: int, on_progress: Progress) -> None:
        """Plain exports are written into `scratch`."""
        self._stack, self._scratch, self._threads, self._on_progress = stack, scratch, threads, on_progress
        self.left_out: list[LeftOut] = []

    def line_up(self, packages: Mapping[str, Package], against: Sequence[Library] | None) -> list[Group]:
        """Raises a TrtbertError for a package that cannot run here, and for what `against` names and cannot: MissingRuntimeError where a
        library is missing, InputError where the source model is gone or another one. With None, such ways to run it are left out.
        """
        sources = _by_source(packages)
        own = [
            [self._package(name, package) for name, package in members.items()] for members in sources
        ]  # before exports, which take long
        groups = []
        for number, (members, racers) in enumerate(zip(sources, own, strict=True), start=1):
            others = self._others(next(iter(members.values())), f" {number}" if len(sources) > 1 else "", against)
            groups.append(Group(packages=members, racers=[*others, *racers]))
        return groups

    def _package(self, name: str, package: Package) -> Racer:
        manifest = package.manifest
        what = f"{manifest.runtime}, {manifest.precision}, target {manifest.target}"
        return self._start(Contender(name=name, package=package.path), what, manifest.precision)

    def _others(self, package: Package, suffix: str, against: Sequence[Library] | None) -> list[Racer]:
        """The ways to run the source model of `package`."""
        wanted: Sequence[Library] = against or get_args(Library)
        try:
            graph = self._plain_export(package, wanted)
        except (TrtbertError, ModuleNotFoundError) as error:
            self._leave_out([library + suffix for library in wanted], error, is_wanted=against is not None)
            return []
        found = []
        for library in wanted:
            raced = Contender(name=library + suffix, package=package.path, library=library, graph=None if library == "torch" else graph)
            try:
                _check_library(library, package)
                found.append(self._start(raced, _WHAT[library], "fp32"))
            except (TrtbertError, ModuleNotFoundError) as error:
                self._leave_out([raced.name], error, is_wanted=against is not None)
        return found

    def _plain_export(self, package: Package, wanted: Sequence[Library]) -> Path:
        """In a process of its own, which does not keep what it takes; only where it is wanted."""
        source, output = Path(package.manifest.source.path), Path(tempfile.mkdtemp(dir=self._scratch), "plain.onnx")
        if not source.exists():
            raise InputError(f"The source model {source} of {package.path} is not there any more. Put it back to time it.")
        if set(wanted) != {"torch"}:
            self._on_progress(f"exporting {source.name}", 0, None)
            with worker(f"The source model {source}", _ADVICE) as exporter:
                exporter.call(contender.export_plain, package.path, output)
        return output

    def _start(self, raced: Contender, what: str, precision: Precision) -> Racer:
        self._on_progress(f"loading {raced.name}", 0, None)
        racer = Racer(contender=raced, worker=self._stack.enter_context(worker(raced.name, _ADVICE)), what=what, precision=precision)
        racer.load(self._threads)
        return racer

    def _leave_out(self, names: list[str], error: TrtbertError | ModuleNotFoundError, *, is_wanted: bool) -> None:
        """Raises the error where they were asked for."""
        explained = error
        if isinstance(error, ModuleNotFoundError):
            explained = MissingRuntimeError(
                f"The source model needs {error.name!r}, which is not installed: pip install 'trtbert[compile]'"
            )
        if is_wanted:
            raise explained from error
        self.left_out.append(LeftOut(names=names, why=str(explained)))


def check_answers(group: Group, batches: Sequence[Feeds]) -> list[dict[str, Any]]:
    """How far each is from the first one on the same inputs; VerificationError where that is more than their precisions allow."""
    first, *others = group.racers
    expected, task = [first.answer(feeds) for feeds in batches], group.package.manifest.model.task
    found = []
    for racer in others:
        limits = verify.LIMITS[max(first.precision, racer.precision, key=_PRECISIONS.index)]
        figures = verify.compare(racer.name, batches, expected, racer.answer, task=task, limits=limits)
        if not figures.is_passed:
            raise VerificationError(
                f"{racer.name} does not answer as {first.name} does, and nothing was timed: on the same inputs its error is "
                f"{figures.max_error:.1e} of the scale, its cosine {figures.cosine:.6f}, its squared error {figures.squared_error:.1e}. "
                f"See which of the two is wrong: trtbert verify {racer.contender.package}"
            )
        found.append({"name": racer.name, "as": first.name, "max_error": figures.max_error, "cosine": figures.cosine})
    return found


def _by_source(packages: Mapping[str, Package]) -> list[dict[str, Package]]:
    found: dict[tuple[str, ...], dict[str, Package]] = {}
    for name, package in packages.items():
        manifest = package.manifest
        found.setdefault((manifest.source.sha256, manifest.model.task, manifest.source.pooling), {})[name] = package
    return list(found.values())


def _check_library(library: Library, package: Package) -> None:
    source = package.manifest.source.path
    if library == "torch" and source.endswith(".onnx"):
        raise UnsupportedError(f"PyTorch does not run {source}, an ONNX file; onnxruntime and openvino do.")
