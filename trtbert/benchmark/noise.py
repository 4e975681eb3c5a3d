"""What else ran on the machine -> warnings: a time that was measured beside it says little by itself."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMITS = {
    "load_before": 0.5,  # a program that takes half a core slows whatever takes all of them
    "others_share": 0.05,  # a contender on all cores is slowed by about as much, and by that much packages are chosen
    "steal_share": 0.01,  # a machine that is nobody else's has none
    "spread": 0.1,  # two contenders that differ by less are no further apart than one is from itself
}
"""Above these a figure is warned of."""
_BUSY = ("user", "nice", "system", "irq", "softirq")
_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of all our CPUs since the start of the machine."""

    busy: float
    steal: float
    """That a virtual machine waited for its host."""
    total: float


def load_average() -> float:
    """Over the last minute."""
    return round(os.getloadavg()[0], 2)


def cpu_times(file: Path = Path("/proc/stat"), cpus: frozenset[int] | None = None) -> Times | None:
    """Of `cpus`, by default those that this process may use; None where the kernel does not say."""
    if not file.is_file():
        return None
    ours = os.sched_getaffinity(0) if cpus is None else cpus
    lines = [line.split() for line in file.read_text().splitlines()]
    rows = [dict(zip(_FIELDS, map(int, line[1:]), strict=False)) for line in lines if line and line[0] in {f"cpu{cpu}" for cpu in ours}]
    second = os.sysconf("SC_CLK_TCK")
    busy, steal, total = (sum(row.get(name, 0) for row in rows for name in names) / second for names in (_BUSY, ("steal",), _FIELDS))
    return Times(busy=busy, steal=steal, total=total) if total else None


def noise(
    load_before: float, before: Times | None, after: Times | None, ours: float, shapes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """`ours` are the CPU seconds of all contenders and this process between the two; `shapes` are the results."""
    total = after.total - before.total if before and after else 0.0
    others, steal = None, None
    if before and after and total > 0:
        others, steal = max(0.0, after.busy - before.busy - ours) / total, (after.steal - before.steal) / total
    rows = [{**shape, **result} for shape in shapes for result in shape["results"]]
    worst = max(rows, key=lambda row: float(row["spread"]))
    facts = {"load_before": load_before, "others_share": others, "steal_share": steal, "spread": worst["spread"]}
    return {**facts, "limits": LIMITS, "warnings": list(_warnings(facts, worst, rows))}


def _warnings(facts: Mapping[str, float | None], worst: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    over = {name: value for name, value in facts.items() if value is not None and value > LIMITS[name]}
    if "load_before" in over:
        yield f"The load of the machine was {over['load_before']:.2f} before the run began; more than {LIMITS['load_before']} is not quiet."
    if "others_share" in over:
        yield f"Other programs took {over['others_share']:.0%} of the CPUs during the run; more than {LIMITS['others_share']:.0%} shows."
    if "steal_share" in over:
        yield f"The host of this virtual machine took {over['steal_share']:.1%} of its CPUs; more than {LIMITS['steal_share']:.0%} shows."
    if "spread" in over:
        num = sum(row["spread"] > LIMITS["spread"] for row in rows)
        yield (
            f"In {num} of {len(rows)} rows the rounds lie more than {LIMITS['spread']:.0%} apart; worst is {worst['name']} at batch "
            f"{worst['batch']} x {worst['length']} tokens with {worst['spread']:.0%}."
        )
    if facts["others_share"] is None:
        yield "What other programs took of the CPUs is not known: the kernel does not say."
