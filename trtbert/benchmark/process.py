"""A contender in a process of its own: the threads of two libraries that wait in one process slow each other down."""

import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from trtbert.errors import UnsupportedError


class Worker:
    """Calls functions in the process, one at a time."""

    def __init__(self, name: str, pipe: Connection) -> None:
        self.name, self._pipe = name, pipe

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Raises what the function raises, and UnsupportedError where the process dies of it."""
        try:
            self._pipe.send((function, arguments))
            result, error = self._pipe.recv()
        except (EOFError, OSError) as ended:
            raise UnsupportedError(
                f"{self.name} cannot be timed: its process died, of too little memory or a fault of its library. Leave it out."
            ) from ended
        if error is not None:
            raise error
        return result


@contextmanager
def worker(name: str) -> Iterator[Worker]:
    """The process ends with the block, whatever it does at that moment, and with this process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), name=name, daemon=True)
    resource_tracker.ensure_running()  # which lifts the hold when it starts
    with _interrupts_held():  # which the process inherits for good: Ctrl-C is for this one, that ends the others
        process.start()
    theirs.close()  # so that the end of the process ends a wait for its reply
    try:
        yield Worker(name, ours)
    finally:
        process.terminate()
        process.join(2)
        process.kill()
        ours.close()


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
