"""Random arrivals at a simulated server whose service time is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from trtbert.benchmark.arrivals import Served, arrivals, serve, summary


@dataclass
class Server:
    """Its own clock; every run takes `service` seconds."""

    service: float
    now: float = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def run(self) -> None:
        self.now += self.service


def served(times: Sequence[float], service: float) -> Served:
    server = Server(service)
    return serve(times, server.run, clock=server.clock, sleep=server.sleep)


def test_latency_counts_from_the_arrival() -> None:
    """The second waits for the first, the third for the second, the fourth for nobody."""
    found = served([0.0, 0.01, 0.15, 0.5], 0.1)
    assert found.latencies == pytest.approx([100, 190, 150, 100])
    assert (found.busy, found.seconds) == (pytest.approx(0.4), pytest.approx(0.6))


def test_the_queue_is_that_of_lindley() -> None:
    times = arrivals(80.0, 10.0, seed=1)
    found, free, expected = served(times, 0.01), 0.0, []
    for arrival in times:
        free = max(free, arrival) + 0.01
        expected.append((free - arrival) * 1e3)
    assert len(times) == 800 and found.latencies == pytest.approx(expected)


@pytest.mark.parametrize("utilisation", [0.2, 0.5, 0.8])
def test_the_mean_wait_is_that_of_pollaczek_and_khinchine(utilisation: float) -> None:
    """M/D/1: utilisation x service / (2 (1 - utilisation)). Measured error: at most 1.5 %."""
    service = 0.01
    found = served(arrivals(utilisation / service, 4000.0, seed=0), service)
    wait = np.mean(found.latencies) - service * 1e3
    assert wait == pytest.approx(1e3 * utilisation * service / (2 * (1 - utilisation)), rel=0.05)


def test_the_gaps_are_those_of_a_poisson_process() -> None:
    """Exponential: as wide as their mean, and one in e of them longer than it."""
    times = np.array(arrivals(50.0, 2000.0, seed=0))
    gaps = np.diff(times)
    assert len(times) == 100_000 and gaps.min() >= 0 and times.max() <= 2000
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.02) and (gaps > gaps.mean()).mean() == pytest.approx(1 / np.e, abs=0.01)


def test_arrivals_repeat_by_their_seed() -> None:
    assert arrivals(5.0, 3.0, seed=2) == arrivals(5.0, 3.0, seed=2) != arrivals(5.0, 3.0, seed=3)
    assert len(arrivals(0.01, 1.0, seed=0)) == 1


@pytest.mark.parametrize(("rate", "seconds"), [(0.4, 1.0), (1.0, 1.3), (20.0, 0.17)])
def test_the_rate_holds_also_for_few_arrivals(rate: float, seconds: float) -> None:
    """Over many seeds: the mean of n times that lie uniformly in n / rate is half of it."""
    num = len(arrivals(rate, seconds, seed=0))
    mean = np.mean([arrivals(rate, seconds, seed=seed) for seed in range(2000)])
    assert num == max(1, round(rate * seconds)) and mean == pytest.approx(num / rate / 2, rel=0.05)


def test_a_rate_that_is_held() -> None:
    found = summary(40.0, [served(arrivals(40.0, 5.0, seed=seed), 0.02) for seed in range(3)])
    assert found["is_held"] and found["utilisation"] == pytest.approx(0.8)
    assert found["num_answers"] == 600 and found["answers_per_second"] == 40.0
    assert 20 < found["p50"] < found["p95"] < found["p99"]


def test_a_rate_that_is_not_held_has_no_latency() -> None:
    turns = [served(arrivals(100.0, 5.0, seed=seed), 0.02) for seed in range(3)]
    found = summary(100.0, turns)
    assert not found["is_held"] and found["utilisation"] == pytest.approx(2.0)
    assert found["answers_per_second"] == pytest.approx(50.0, rel=0.01)
    assert (found["p50"], found["p95"], found["p99"]) == (None, None, None)


def test_what_falls_far_behind_is_given_up() -> None:
    found = served(arrivals(1000.0, 1.0, seed=0), 0.1)
    assert found.seconds == pytest.approx(2.0, abs=0.11) and len(found.latencies) < 22
