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


def measure_costs(calibrated: Calibrated, held_back: Sequence[Feeds]) -> tuple[Cost, ...]:
    """What quantising each part alone costs, the most costly first."""
    judge = Judge(calibrated.base, held_back)
    costs = [Cost(key=part.key, label=part.label, error=judge.error(calibrated.model({part.key}))) for part in calibrated.parts]
    return tuple(sorted(costs, key=lambda cost: -cost.error))


def fit_budget(costs: Sequence[Cost], score: Callable[[Collection[str]], float], *, least: float) -> Budget | None:
    """Put as few of the most costly parts back into float as keep `score` at `least`; None where only an all-float model would.

    `score` takes the keys of the parts in INT8. Tried are 0, 1, 2, 4, 8, ... parts in float, and then by halves the numbers between the
    last that failed and the first that did not.
    """

    def scored(num_reverted: int) -> float:
        found = score([cost.key for cost in costs[num_reverted:]])
        logger.info("%d parts in float: %.4f", num_reverted, found)
        return found

    failed, num_reverted = -1, 0
    while (found := scored(num_reverted)) < least:
        failed, num_reverted = num_reverted, max(1, 2 * num_reverted)
        if num_reverted >= len(costs):
            if failed == len(costs) - 1:
                return None
            num_reverted = len(costs) - 1
    passed = found
    while num_reverted - failed > 1:
        middle = (failed + num_reverted) // 2
        if (found := scored(middle)) >= least:
            num_reverted, passed = middle, found
        else:
            failed = middle
    return Budget(reverted=tuple(cost.key for cost in costs[:num_reverted]), score=passed)
