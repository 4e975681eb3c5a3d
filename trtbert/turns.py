"""Contenders take turns, so that what else runs on the machine slows all of them alike; a ratio is taken within a round."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def rounds(turns: Sequence[Callable[[], T]]) -> Iterator[list[T]]:
    """What each of the turns gives, round by round without end, in an order that is turned round each time."""
    order = list(range(len(turns)))
    while True:
        given = {index: turns[index]() for index in order}
        yield [given[index] for index in range(len(turns))]
        order.reverse()


def wait_until_idle() -> None:
    """Until no thread of this process has used the CPU for 30 ms, for some spin on after a run; at most 2 s."""
    deadline, used = time.monotonic() + 2, -1.0
    while time.process_time() - used > 1e-3 and time.monotonic() < deadline:
        used = time.process_time()
        time.sleep(0.03)
