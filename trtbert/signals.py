"""Ctrl-C and SIGTERM -> an exception where there is something to clean up, the end at once where there is nothing yet."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
"""The exit code after Ctrl-C."""
_Handler = Callable[[int, FrameType | None], None]


@contextmanager
def termination_raises() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block with SystemExit, where they would end the process without cleaning up."""
    with _handled({signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}, _exit):
        yield


@contextmanager
def interrupt_ends() -> Iterator[None]:
    """Let Ctrl-C end the process in the block, which imports modules: they may swallow KeyboardInterrupt or make another error of it."""
    with _handled({signal.SIGINT: signal.default_int_handler}, _end):
        yield


@contextmanager
def _handled(defaults: dict[signal.Signals, signal.Handlers | _Handler], handler: _Handler) -> Iterator[None]:
    """Handle the signals that have their default handler, in the main thread, which is the only one that may."""
    is_main = threading.current_thread() is threading.main_thread()
    changed = {number: default for number, default in defaults.items() if is_main and signal.getsignal(number) is default}
    for number in changed:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, default in changed.items():
            signal.signal(number, default)


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _end(number: int, _: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
