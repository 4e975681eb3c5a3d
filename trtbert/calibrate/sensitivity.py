"""A calibrated model and a budget -> which parts go back to float, and what quantising each costs."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from trtbert.calibrate.choose import Calibrated
from trtbert.calibrate.collect import Feeds
from trtbert.calibrate.trials import Judge

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The error of the model's outputs with this one part in INT8 (see Judge.error)."""

    key: str
    label: str
    error: float


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How the budget was met."""

    reverted: tuple[str, ...]
    """Keys of the parts that stay in float, the most costly first."""
    score: float


def measure_error(calibrated: Calibrated, kept: Collection[str], held_back: Sequence[Feeds]) -> float:
    """The error of the outputs with the parts `kept` in INT8, as they will be (see Judge.error)."""
    return Judge(calibrated.base, held_back).error(calibrated.model(kept))


def measure_costs(calibrated: Calibrated, held_back: Sequence[Feeds]) -> tuple[Cost, ...]:
    """What quantising each part alone costs, the most costly first."""
    judge = Judge(calibrated.base, held_back)
    costs = [Cost(key=part.key, label=part.label, error=judge.error(calibrated.model({part.key}))) for part in calibrated.parts]
    return tuple(sorted(costs, key=lambda cost: -cost.error))


def fit_budget(costs: Sequence[Cost], score: Callable[[Collection[str]], float], *, least: float) -> Budget | None:
    """Put the most costly parts back into float until `score` is at least `least`; None where only an all-float model would do.

    `score` takes the keys of the parts in INT8. Tried are 0, 1, 2, 4, 8, ... parts in float, and then by halves the numbers between the
    last that failed and the first that did not. A score need not grow with every part, so at last each of these, the cheapest first, is
    tried in INT8 again.
    """
    keys = [cost.key for cost in costs]

    def holds(reverted: Collection[str]) -> float | None:
        found = score([key for key in keys if key not in reverted])
        logger.info("%d parts in float: %.4f", len(reverted), found)
        return found if found >= least else None

    failed, num_reverted = -1, 0
    while (passed := holds(keys[:num_reverted])) is None:
        if num_reverted >= len(keys) - 1:
            return None
        failed, num_reverted = num_reverted, min(max(1, 2 * num_reverted), len(keys) - 1)
    while num_reverted - failed > 1:
        middle = (failed + num_reverted) // 2
        if (found := holds(keys[:middle])) is not None:
            num_reverted, passed = middle, found
        else:
            failed = middle
    reverted = keys[:num_reverted]
    for key in reverted[::-1] if num_reverted > 1 else ():
        fewer = [other for other in reverted if other != key]
        if (found := holds(fewer)) is not None:
            reverted, passed = fewer, found
    return Budget(reverted=tuple(reverted), score=passed)
