"""Functions called in a process of its own: the threads of two libraries that wait in one process slow each other down.

The process is a fresh interpreter. It imports the module of a function that it is told to call, never the program that started it: that may
be a script whose first line starts the work.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import IO, Any

from trtbert.errors import UnsupportedError
from trtbert.process_log import last_lines


class Worker:
    """Calls functions in the process, one at a time."""

    def __init__(self, name: str, advice: str, process: subprocess.Popen[bytes], pipe: Connection, log: IO[bytes]) -> None:
        self.name = name
        self._advice, self._process, self._pipe, self._log = advice, process, pipe, log

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Raises what the function raises, and UnsupportedError where the process dies of it."""
        try:
            self._pipe.send((function, arguments))
            result, error = self._pipe.recv()
        except (EOFError, OSError) as ended:
            raise self._death() from ended
        if error is not None:
            raise error
        return result

    def _death(self) -> UnsupportedError:
        status = self._process.wait()
        self._log.seek(0)
        lines = last_lines(self._log.read().decode(errors="replace"))
        return UnsupportedError(f"{self.name} cannot be timed: its process ended with status {status}.{lines}\n{self._advice}")


@contextmanager
def worker(name: str, advice: str) -> Iterator[Worker]:
    """The process ends with the block, whatever it does at that moment, and with this process.

    What it prints is kept for the error that tells of its death, as is `advice`.
    """
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryFile() as log, ours:
        with theirs, _interrupts_held():  # which the process inherits for good: Ctrl-C is for this one, that ends the others
            process = subprocess.Popen(
                [*_COMMAND, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        try:
            yield Worker(name, advice, process, ours, log)
        finally:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C comes after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection) -> None:
    """Until the other end is closed, or SIGTERM: an orderly exit, for killed processes leave semaphores behind."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with suppress(EOFError, OSError):
        while True:
            pipe.send(_outcome(*pipe.recv()))


def _outcome(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, Exception | None]:
    """What the function gives, or else raises."""
    try:
        return function(*arguments), None
    except Exception as error:
        error.add_note(traceback.format_exc())  # of this process, for a bug: the error is raised in the other one
        return None, error


_COMMAND = (sys.executable, "-P", "-m", "trtbert.worker_process")
"""Without the working directory among the places of modules, where a file may have any name."""

if __name__ == "__main__":
    _work(Connection(int(sys.argv[1])))
