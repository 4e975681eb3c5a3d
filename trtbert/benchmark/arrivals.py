"""Single texts that arrive at random, whether the one before was answered or not -> how long each waited for its answer.

One engine answers one text at a time, in the order of their arrival, as a server without batching does: a queue forms by itself.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtbert.benchmark.race import percentiles

TURNS = 3


@dataclass(frozen=True, kw_only=True)
class Served:
    """One turn."""

    latencies: list[float]
    """Milliseconds from arrival to answer."""
    busy: float
    """Seconds that the engine ran."""
    seconds: float
    """Until the last answer."""


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds from the start; of a Poisson process with as many arrivals as are expected in `seconds`, which then lie uniformly.

    There is one at least, and the time that they lie in is such that the rate holds.
    """
    num = max(1, round(rate * seconds))
    times: list[float] = np.sort(np.random.default_rng(seed).uniform(0, num / rate, num)).tolist()
    return times


def serve(
    times: Sequence[float],
    run: Callable[[], Any],
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Served:
    """Call `run` for each arrival, as soon as it is there and the run before has ended.

    What the engine falls behind by is given up after as long again as the arrivals took: the queue would only grow.
    """
    start, latencies, busy, now = clock(), list[float](), 0.0, 0.0
    for arrival in times:
        if now > 2 * times[-1]:
            break
        if arrival > now:
            sleep(arrival - now)
        began = clock() - start
        run()
        now = clock() - start
        busy += now - began
        latencies.append((now - arrival) * 1e3)
    return Served(latencies=latencies, busy=busy, seconds=now)


def summary(rate: float, turns: Sequence[Served]) -> dict[str, Any]:
    """A rate is held where the engine is faster than texts come: rate x mean run < 1; answers leave as fast then.

    Else latencies grow with the length of the run, and there are none to give.
    """
    latencies = [latency for turn in turns for latency in turn.latencies]
    utilisation = rate * sum(turn.busy for turn in turns) / len(latencies)
    is_held = utilisation < 1
    return {
        "num_answers": len(latencies),
        "utilisation": utilisation,
        "is_held": is_held,
        "answers_per_second": rate if is_held else len(latencies) / sum(turn.seconds for turn in turns),
        **percentiles(latencies if is_held else []),
    }
