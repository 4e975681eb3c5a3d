"""The engine's thread: answers and failures reach the requests they belong to."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from trtbert.predictor import Job
from trtbert.predictor.batches import Batch, Shape, first_shape, plan_batches
from trtbert.serve.engine import BatchFacts, Engine
from trtbert.serve.refusal import Refusal


class Encoder:
    """Runs nothing: a row is the encoding itself."""

    max_tokens, batch_tokens = 64, 24

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def first_shape(self, num_texts: int, length: int) -> Shape:
        return first_shape(num_texts, min(length, 64), (), max_tokens=self.max_tokens)

    def plan(self, lengths: Sequence[int], *, min_length: int) -> list[Batch]:
        return plan_batches(lengths, (), max_tokens=self.max_tokens, min_length=min(min_length, 64))

    def rows(self, encodings: Sequence[Any], *, min_length: int) -> Any:
        if self.error is not None:
            raise self.error
        return enumerate(encodings)


class Model:
    """A name and an encoder."""

    name = "model"

    def __init__(self, error: Exception | None = None) -> None:
        self.encoder = Encoder(error)


def fail(index: int, row: Any) -> Any:
    raise ValueError("of this request")


def run(*requests: tuple[Any, Job], max_tokens: int = 1000) -> tuple[list[Any], list[BatchFacts]]:
    """What each request got, all asked at once."""

    async def ask() -> tuple[list[Any], list[BatchFacts]]:
        facts: list[BatchFacts] = []
        engine = Engine(max_tokens, 60, facts.append)
        asked = [engine.run(model, job, [len(encoding) for encoding in job.encodings]) for model, job in requests]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert engine.num_waiting_tokens == 0
        await engine.close()
        return results, facts

    return asyncio.run(ask())


def job(*lengths: int, take: Any = lambda index, row: (index, len(row))) -> Job:
    return Job([[0] * length for length in lengths], take)  # type: ignore[arg-type]


def test_answers_come_back_in_order() -> None:
    model = Model()
    results, facts = run((model, job(40, 3, 5)), (model, job(5)))
    assert results == [[(0, 40), (1, 3), (2, 5)], [(0, 5)]]
    assert sum(fact.num_texts for fact in facts) == 4 and sum(fact.num_tokens for fact in facts) == 53
    assert sum(fact.num_padding for fact in facts) == 5 + 3 + 3


def test_one_failure_is_one_requests() -> None:
    model = Model()
    results, _ = run((model, job(5, take=fail)), (model, job(5)), (model, job(6)))
    assert isinstance(results[0], ValueError) and results[1:] == [[(0, 5)], [(0, 6)]]


def test_a_runtime_that_fails_stops_nobody_else() -> None:
    results, _ = run((Model(RuntimeError("out of memory")), job(5, 30)), (Model(), job(5)))
    assert isinstance(results[0], RuntimeError) and results[1] == [(0, 5)]


def test_what_does_not_fit_is_refused() -> None:
    results, _ = run((Model(), job(50, 60)), (Model(), job(5)), max_tokens=100)
    assert isinstance(results[0], Refusal) and results[0].status == 429 and (results[0].retry_after or 0) >= 1
    assert results[1] == [(0, 5)]


def test_a_queue_that_would_take_long_is_full() -> None:
    class Slow(Encoder):
        def rows(self, encodings: Sequence[Any], *, min_length: int) -> Any:
            time.sleep(0.1)
            return enumerate(encodings)

    async def ask() -> tuple[int, list[Any]]:
        engine, model = Engine(100_000, 0.5, lambda facts: None), Model()
        model.encoder = Slow()
        await engine.run(model, job(*[64] * 11), [64] * 11)  # type: ignore[arg-type]  # So it is known: about 640 tokens a second.
        waiting = [asyncio.ensure_future(engine.run(model, job(64), [64])) for _ in range(10)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            engine.check_room()
        await asyncio.gather(*waiting)
        engine.check_room()
        await engine.close()
        return refused.value.status, waiting

    status, waiting = asyncio.run(ask())
    assert status == 429 and all(task.result() == [(0, 64)] for task in waiting)


def test_slow_first_batches_refuse_nobody() -> None:
    """A runtime that still prepares is not as slow as that."""

    class Preparing(Encoder):
        num_left = 2

        def rows(self, encodings: Sequence[Any], *, min_length: int) -> Any:
            time.sleep(0.3 if self.num_left > 0 else 0.001)
            self.num_left -= 1
            return enumerate(encodings)

    async def ask() -> list[Any]:
        engine, model = Engine(100_000, 0.5, lambda facts: None), Model()
        model.encoder = Preparing()
        waiting = []
        for _ in range(5):
            engine.check_room()
            waiting += [asyncio.ensure_future(engine.run(model, job(64), [64])) for _ in range(10)]  # type: ignore[arg-type]
            await waiting[-10]
        answers = await asyncio.gather(*waiting)
        engine.check_room()
        await engine.close()
        return answers

    assert asyncio.run(ask()) == [[(0, 64)]] * 50


def test_a_quiet_time_makes_no_server_slow() -> None:
    """Short texts that come alone take long for their tokens: what comes at once after them is refused no earlier than before."""

    class Fixed(Encoder):
        """A batch takes 10 ms, whatever is in it."""

        max_tokens = 4096

        def rows(self, encodings: Sequence[Any], *, min_length: int) -> Any:
            time.sleep(0.01)
            return enumerate(encodings)

    async def ask() -> None:
        engine, model = Engine(100_000, 0.5, lambda facts: None), Model()
        model.encoder = Fixed()

        async def burst() -> None:
            waiting = []
            for length in range(1, 65):
                engine.check_room()
                waiting += [asyncio.ensure_future(engine.run(model, job(length), [length])) for _ in range(3)]  # type: ignore[arg-type]
                await asyncio.sleep(0)
            await asyncio.gather(*waiting)

        await burst()
        for _ in range(30):
            await engine.run(model, job(4), [4])  # type: ignore[arg-type]
        await burst()
        await engine.close()

    asyncio.run(ask())


def test_a_cancelled_request_leaves_nothing() -> None:
    async def ask() -> int:
        engine = Engine(1000, 60, lambda facts: None)
        task = asyncio.ensure_future(engine.run(Model(), job(*[50] * 10), [50] * 10))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        num = engine.num_waiting_tokens
        await engine.close()
        return num

    assert asyncio.run(ask()) == 0
