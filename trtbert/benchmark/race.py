"""Contenders in turn -> the times of each, and what they say."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trtbert.turns import rounds

MIN_ROUNDS, MAX_RUNS = 3, 200
LEAST_RUNS = {50: 1, 95: 20, 99: 100}
"""Of fewer runs a percentile is little but the slowest run, and is left out."""
Rounds = list[list[float]]
"""Milliseconds: one list for each turn."""


def race(turns: Sequence[Callable[[], list[float]]], seconds: float) -> list[Rounds]:
    """What each of the turns gives, round by round, until `seconds` for each are spent or each has runs enough."""
    taken, end = list[list[list[float]]](), time.monotonic() + seconds * len(turns)
    for given in rounds(turns):
        taken.append(given)
        own: list[Rounds] = [list(turns) for turns in zip(*taken, strict=True)]
        num_runs = min(sum(map(len, times)) for times in own)
        if len(taken) >= MIN_ROUNDS and (time.monotonic() >= end or num_runs >= MAX_RUNS):
            break
    return own


def summary(own: Rounds, batch: int, baseline: Rounds | None) -> dict[str, Any]:
    """`speedup` is the median over the rounds of the baseline's time divided by this one's, between the 10th and the 90th percentile;
    `spread` is how far those percentiles of the rounds' medians lie apart, as a share of their median."""
    times = [time for turn in own for time in turn]
    medians = [np.median(turn) for turn in own]
    low, middle, high = np.percentile(medians, (10, 50, 90))
    ratios = None if baseline is None else np.percentile([np.median(b) / m for b, m in zip(baseline, medians, strict=True)], (50, 10, 90))
    return {
        "num_runs": len(times),
        "num_rounds": len(own),
        **percentiles(times),
        "texts_per_second": batch / float(np.median(times)) * 1e3,
        "spread": float((high - low) / middle),
        **dict(zip(("speedup", "speedup_p10", "speedup_p90"), (None,) * 3 if ratios is None else map(float, ratios), strict=True)),
    }


def percentiles(times: Sequence[float]) -> dict[str, float | None]:
    return {f"p{q}": float(np.percentile(times, q)) if len(times) >= least else None for q, least in LEAST_RUNS.items()}
