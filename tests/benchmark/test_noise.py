"""What else ran -> warnings where it did, and none where it did not."""

from pathlib import Path
from typing import Any

import pytest

from trtbert.benchmark.noise import LIMITS, Times, cpu_times, noise

BEFORE = Times(busy=100.0, steal=5.0, total=1000.0)


def shapes(*spreads: float) -> list[dict[str, Any]]:
    return [{"batch": 8, "length": 32, "results": [{"name": f"c{index}", "spread": spread} for index, spread in enumerate(spreads)]}]


def after(*, busy: float, steal: float = 0.0) -> Times:
    """Ten seconds of two CPUs later."""
    return Times(busy=BEFORE.busy + busy, steal=BEFORE.steal + steal, total=BEFORE.total + 20)


def test_a_quiet_machine() -> None:
    found = noise(0.4, BEFORE, after(busy=18.5), 18.0, shapes(0.02, 0.05))
    assert found["warnings"] == []
    assert (found["load_before"], found["steal_share"], found["spread"]) == (0.4, 0.0, 0.05)
    assert found["others_share"] == pytest.approx(0.025) and found["limits"] == LIMITS


@pytest.mark.parametrize(
    ("load", "busy", "steal", "spread", "words"),
    [
        (0.6, 18.0, 0.0, 0.02, "load of the machine was 0.60 before"),
        (0.1, 20.0, 0.0, 0.02, "Other programs took 10% of the CPUs"),
        (0.1, 18.0, 0.5, 0.02, "took 2.5% of its CPUs"),
        (0.1, 18.0, 0.0, 0.2, "In 1 of 2 rows the rounds lie more than 10% apart; worst is c0 at batch 8 x 32 tokens with 20%"),
    ],
    ids=["load", "others", "steal", "spread"],
)
def test_each_kind_of_noise(load: float, busy: float, steal: float, spread: float, words: str) -> None:
    found = noise(load, BEFORE, after(busy=busy, steal=steal), 18.0, shapes(spread, 0.01))
    assert len(found["warnings"]) == 1 and words in found["warnings"][0]


def test_our_own_work_is_no_noise() -> None:
    """The clocks of the kernel are coarse: what is counted of us may be more than what was busy."""
    assert noise(0.0, BEFORE, after(busy=17.9), 18.0, shapes(0.0))["others_share"] == 0.0


def test_where_the_kernel_does_not_say() -> None:
    found = noise(0.0, None, None, 18.0, shapes(0.0))
    assert (found["others_share"], found["steal_share"]) == (None, None)
    (warning,) = found["warnings"]
    assert "not known" in warning


def test_the_times_are_those_of_our_cpus(tmp_path: Path) -> None:
    file = tmp_path / "stat"
    file.write_text("cpu  9 9 9 9 9 9 9 9\ncpu0 100 50 30 800 10 5 5 2 1 1\ncpu1 1 1 1 1 1 1 1 1\ncpu12 7 7 7 7 7 7 7 7\nintr 5\n")
    found = cpu_times(file, frozenset({0}))
    assert found is not None
    second = found.total / 1002
    assert (found.busy, found.steal) == (pytest.approx(190 * second), pytest.approx(2 * second))
    assert cpu_times(tmp_path / "missing") is None
    file.write_text("cpu0 0 0 0 0 0 0 0 0\n")
    assert cpu_times(file, frozenset({0})) is None


def test_this_machine_says_something() -> None:
    assert cpu_times() is not None
