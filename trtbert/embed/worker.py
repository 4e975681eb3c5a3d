"""A shard -> its output file, in a process that holds one package."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa

from trtbert.data import Text
from trtbert.embed.answers import answer_columns
from trtbert.embed.config import Format
from trtbert.embed.plan import SOURCES, package_digest
from trtbert.embed.shards import CHUNK, Cut, Shard
from trtbert.embed.sinks import writing
from trtbert.errors import InputError, PackageError, TrtbertError, UnsupportedError
from trtbert.predictor import Predictor, load

_FEATURES_CHUNK = 64
"""Rows at once where each token has a vector."""


@dataclass(frozen=True)
class Work:
    """What the shards of a run have in common."""

    package: Path
    digest: str
    threads: int
    texts: tuple[str, ...]
    schema: pa.Schema
    answers: pa.Schema
    output_schema: pa.Schema
    format: Format
    folder: Path
    scratch: Path


@dataclass(frozen=True)
class Done:
    """A shard whose file is there."""

    name: str
    rows: int
    tokens: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A shard that our own error ended, which a retry would end as well."""

    kind: str
    message: str


class Worker:
    """Called by Ray with one shard at a time, as JSON; whatever is no error of ours goes through Ray as it is."""

    max_tries = 6
    """Of a shard: Ray would for ever start anew a worker that its rows end, by their memory or a fault of a library."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"result": [json.dumps(asdict(self._try(_shard(text)))) for text in batch["shard"]]}

    def _try(self, shard: Shard) -> Done | Failed:
        try:
            return self.run(shard)
        except TrtbertError as error:
            return Failed(type(error).__name__, str(error))

    def run(self, shard: Shard) -> Done:
        """Raises what opening the package, reading, predicting and writing raise, before the file is there.

        UnsupportedError after too many tries.
        """
        work, started = self._work, perf_counter()
        rows = tokens = 0
        path = shard.output(work.folder)
        self._check_tries(path)
        chunks = self._chunks(shard)  # Opens the package: what goes wrong within is about the rows.
        with writing(path, work.scratch, work.output_schema, work.format) as write:
            for batch in chunks:
                with _placed(f"{shard.cut.path}, rows {rows} to {rows + len(batch) - 1} of {shard.name}"):
                    columns, num = self._answer(batch)
                    write(pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=work.output_schema))
                rows, tokens = rows + len(batch), tokens + num
            if rows != shard.cut.rows:
                raise InputError(f"{shard.cut.path} changed while it was read: it has fewer rows than before.")
        return Done(shard.name, rows, tokens, path.stat().st_size, perf_counter() - started)

    def _check_tries(self, path: Path) -> None:
        """Every try that ended with its worker left its unfinished file."""
        if len(list(self._work.scratch.glob(f"{path.name}.*"))) >= self.max_tries:
            raise UnsupportedError(
                f"{self.max_tries} workers died over the rows of {path.name}: by too little memory, or a fault of the runtime? Give fewer "
                "--workers. What is done stays: the same command goes on with it."
            )

    def _chunks(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        size = _FEATURES_CHUNK if self._task == "feature-extraction" else CHUNK
        batches = SOURCES[Path(shard.cut.path).suffix.lower()].read(shard.cut, self._work.schema)
        return (batch.slice(start, size) for batch in batches for start in range(0, len(batch), size))

    def _answer(self, batch: pa.RecordBatch) -> tuple[list[pa.Array], int]:
        """The answers as columns, and the tokens that were run for them; texts of about one length run together."""
        job = self._predictor.job(_texts(batch, self._work.texts))
        answers = self._predictor.encoder.run(job)
        return answer_columns(answers, self._task, list(self._work.answers)), sum(map(len, job.encodings))

    @property
    def _task(self) -> Any:
        return self._predictor.manifest.model.task

    @cached_property
    def _predictor(self) -> Predictor:
        """Opened once, with the first shard, where an error can be told."""
        work = self._work
        predictor = load(work.package, threads=work.threads)
        if package_digest(work.package) != work.digest:
            raise PackageError(f"{work.package} is not the same package on every machine. Copy it anew.")
        return predictor


@contextmanager
def _placed(place: str) -> Iterator[None]:
    """Say in our own errors where the rows of the block lie."""
    try:
        yield
    except TrtbertError as error:
        raise type(error)(f"{place}: {error}") from error


def _texts(batch: pa.RecordBatch, names: tuple[str, ...]) -> list[Text]:
    columns = [batch.column(name).to_pylist() for name in names]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def _shard(text: str) -> Shard:
    found = json.loads(text)
    return Shard(found["name"], Cut(**found["cut"]))
