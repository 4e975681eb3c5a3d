"""Calls in a process of its own: results, errors, its death, and its end."""

import math
import os
import signal

import pytest

from trtbert.benchmark.process import worker
from trtbert.errors import InputError, UnsupportedError


def fail() -> None:
    raise InputError("so it is")


def miss() -> None:
    raise ModuleNotFoundError("No module named 'x'", name="x")


def is_interrupt_held() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_calls_and_errors() -> None:
    with worker("x") as own:
        assert own.call(math.hypot, 3, 4) == 5 and own.call(os.getpid) != os.getpid()
        with pytest.raises(InputError) as refused:
            own.call(fail)
        assert str(refused.value) == "so it is"
        with pytest.raises(ModuleNotFoundError) as caught:
            own.call(miss)
        assert caught.value.name == "x" and "in miss" in caught.value.__notes__[0]
        assert own.call(is_interrupt_held) and not is_interrupt_held()
        number = own.call(os.getpid)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_a_process_that_dies() -> None:
    with worker("my-package") as own, pytest.raises(UnsupportedError, match="my-package cannot be timed: its process died"):
        own.call(os._exit, 3)
