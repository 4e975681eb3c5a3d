"""OUTPUT.partial, the folder in which a run grows: its plan, the files of finished shards and the journal that lists them.

It becomes OUTPUT with its last file; until then the same command goes on with it. The journal is written by the driver alone, a line
for each shard after its file is there: a file that no line names is made anew.
"""

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trtbert.embed.plan import Identity, Plan, differences, from_json, to_json
from trtbert.embed.sinks import written
from trtbert.embed.worker import Done
from trtbert.errors import InputError
from trtbert.staging import check_output

log = logging.getLogger(__name__)

SUCCESS = "_SUCCESS.json"
_PLAN, _NEW_PLAN, _JOURNAL, _SCRATCH = "_PLAN.json", ".plan", "_JOURNAL.jsonl", "_scratch-"


@dataclass
class Unfinished:
    """A folder that this process alone writes in, but for the workers."""

    path: Path
    done: dict[str, Done] = field(default_factory=dict)
    """The shards whose files are there."""
    past: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of each run that came this far: its wall seconds and its worker-seconds at its last shard."""

    def __post_init__(self) -> None:
        self.run = f"{time.time_ns():x}"
        self._started = time.monotonic()

    @property
    def scratch(self) -> Path:
        """Where the workers of this run write what is not whole yet; another run's workers find theirs gone."""
        return self.path / (_SCRATCH + self.run)

    def prepare(self) -> None:
        for folder in self.path.glob(_SCRATCH + "*"):
            shutil.rmtree(folder, ignore_errors=True)
        with written(self.scratch):
            self.scratch.mkdir()

    def note(self, done: Done, num_workers: int) -> None:
        self.done[done.name] = done
        wall = time.monotonic() - self._started
        self.past[self.run] = (wall, wall * num_workers)
        line = {"run": self.run, "wall_seconds": wall, "worker_seconds": wall * num_workers, "shard": asdict(done)}
        with written(self.path / _JOURNAL), (self.path / _JOURNAL).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def finish(self, summary: dict[str, Any], output: Path) -> None:
        """Write the summary, leave the output files alone with it, and rename; an output that is there is replaced."""
        for folder in self.path.glob(_SCRATCH + "*"):
            shutil.rmtree(folder, ignore_errors=True)
        with written(self.path / SUCCESS):
            (self.path / SUCCESS).write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        old = output.with_name(f".{output.name}.replaced")
        shutil.rmtree(old, ignore_errors=True)
        if output.exists():
            output.rename(old)
        self.path.rename(output)  # Killed before it, the run is finished by the same command.
        for name in (_JOURNAL, _PLAN):
            (output / name).unlink()
        shutil.rmtree(old, ignore_errors=True)

    def _read_journal(self) -> None:
        """Take a shard for done where its file has the size that was noted. A last line that was cut off says nothing."""
        try:
            lines = (self.path / _JOURNAL).read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return
        for line in lines:
            if line.endswith("\n"):
                noted = json.loads(line)
                self.past[noted["run"]] = (noted["wall_seconds"], noted["worker_seconds"])
                done = Done(**noted["shard"])
                if _size(self.path / done.name) == done.bytes:
                    self.done[done.name] = done
        if lines and not lines[-1].endswith("\n"):
            os.truncate(self.path / _JOURNAL, sum(len(line.encode()) for line in lines[:-1]))  # Takes no space of a disk that was full.


def check(output: Path, force: bool) -> None:
    """Raise InputError for an output that cannot be written or must not be replaced."""
    check_output(output, force, lambda folder: (folder / SUCCESS).is_file())


def partial_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.partial")


@contextmanager
def opened(output: Path) -> Iterator[Unfinished]:
    """The folder of `output`, made where there is none; InputError while another process writes in it.

    A folder that holds no plan at the end is removed.
    """
    path = partial_path(output)
    with written(path):
        path.mkdir(exist_ok=True)
        lock = os.open(path, os.O_RDONLY)
    try:
        _lock(lock, path)
        try:
            yield Unfinished(path)
        finally:
            if path.exists() and _is_new(path):
                shutil.rmtree(path)
    finally:
        os.close(lock)


def resume(folder: Unfinished, identity: Identity, force: bool) -> Plan | None:
    """The plan of an unfinished run, with its finished shards in `folder`; None where there is none, or it is dropped.

    A run of other inputs, package or options is dropped with `force`; else InputError says what differs.
    """
    plan = _read_plan(folder.path)
    changed = ["its plan cannot be read"] if plan is None else differences(plan.identity, identity)
    if plan is not None and not changed:
        folder._read_journal()
        return plan
    if _is_new(folder.path):
        return None
    if not (folder.path / _PLAN).exists():
        raise InputError(f"{folder.path} was not made by trtbert and is in the way. Choose another output, or remove it yourself.")
    if not force:
        raise InputError(
            f"{folder.path} is an unfinished run that this one cannot go on with: {'; '.join(changed)}. "
            "Run the command as it was, or start anew with --force."
        )
    for path in folder.path.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return None


def save(folder: Unfinished, plan: Plan) -> None:
    temporary = folder.path / _NEW_PLAN
    with written(folder.path / _PLAN):
        temporary.write_text(to_json(plan), encoding="utf-8")
        temporary.rename(folder.path / _PLAN)


def _is_new(path: Path) -> bool:
    """Whether it holds nothing, or a plan that was not written to its end."""
    return not {file.name for file in path.iterdir()} - {_NEW_PLAN}


def _read_plan(path: Path) -> Plan | None:
    try:
        return from_json((path / _PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = path.exists()  # Else the process that had it has just renamed or removed it.
    except OSError:
        is_ours = False
    if not is_ours:
        raise InputError(f"Another process writes in {path}; wait for it, or choose another output.")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
