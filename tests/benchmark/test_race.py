"""Turns -> percentiles, ratios and spread, against numpy by hand."""

import numpy as np
import pytest

from trtbert.benchmark import race


def test_it_ends_where_each_has_runs_enough() -> None:
    rounds = race.race([lambda: [1.0] * 25, lambda: [1.0] * 20], seconds=60.0)
    assert [len(own) for own in rounds] == [10, 10]  # 10 x 20 runs


def test_it_goes_on_until_the_time_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(race.time, "monotonic", lambda: now)

    def turn() -> list[float]:
        nonlocal now
        now += 0.5
        return [1.0]

    assert [len(own) for own in race.race([turn, turn], seconds=4.0)] == [8, 8]


@pytest.mark.parametrize("seconds", [0.0, 1e-9])
def test_there_are_three_rounds_at_least(seconds: float) -> None:
    assert race.race([lambda: [1.0], lambda: [2.0]], seconds) == [[[1.0]] * 3, [[2.0]] * 3]


def test_percentiles_ratios_and_spread() -> None:
    rng = np.random.default_rng(0)
    mine, theirs = ([list(rng.uniform(1, 2, 30) * scale) for scale in scales] for scales in ((1, 2, 1, 1, 3), (2, 4.4, 1.8, 2, 6)))
    found = race.summary(mine, 8, theirs)
    times = np.concatenate(mine)
    assert [found[f"p{q}"] for q in (50, 95, 99)] == [pytest.approx(np.percentile(times, q)) for q in (50, 95, 99)]
    assert found["texts_per_second"] == pytest.approx(8000 / np.median(times))
    ratios = np.array([np.median(b) / np.median(a) for a, b in zip(mine, theirs, strict=True)])
    assert (
        found["speedup"] == pytest.approx(np.median(ratios)) and ratios.min() < found["speedup_p10"] < found["speedup_p90"] < ratios.max()
    )
    low, high = np.percentile([np.median(turn) for turn in mine], (10, 90))
    assert found["spread"] == pytest.approx((high - low) / np.median([np.median(turn) for turn in mine]))
    assert (found["num_runs"], found["num_rounds"]) == (150, 5)


def test_a_machine_that_slows_down_changes_no_ratio() -> None:
    """A round in which everything takes three times as long."""
    found = race.summary([[1.0], [3.0], [1.0]], 1, [[2.0], [6.0], [2.0]])
    assert (found["speedup"], found["speedup_p10"], found["speedup_p90"]) == (2.0, 2.0, 2.0) and found["spread"] > 1


def test_a_percentile_of_too_few_runs_is_left_out() -> None:
    for num, known in ((1, (True, False, False)), (19, (True, False, False)), (20, (True, True, False)), (100, (True, True, True))):
        found = race.percentiles([1.0] * num)
        assert tuple(found[f"p{q}"] is not None for q in (50, 95, 99)) == known


def test_without_a_baseline_there_is_no_ratio() -> None:
    found = race.summary([[1.0]], 1, None)
    assert (found["speedup"], found["speedup_p10"], found["speedup_p90"]) == (None, None, None)
