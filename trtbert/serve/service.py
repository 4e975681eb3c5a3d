"""What the endpoints of a worker share: its models, engine, keys and limits, and the way from texts to answers."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trtbert.errors import ConfigError, InputError, TrtbertError, UnsupportedError
from trtbert.hardware import num_cores
from trtbert.predictor import Job
from trtbert.predictor.answer_size import check_answer_size
from trtbert.serve.batching import count_tokens
from trtbert.serve.call import Call
from trtbert.serve.config import ServeConfig
from trtbert.serve.engine import BatchFacts, Engine
from trtbert.serve.keys import read_keys
from trtbert.serve.metrics import Metrics
from trtbert.serve.models import Model, load_models
from trtbert.serve.refusal import ClientGone, Refusal

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_INLINE = 8192
"""Bytes of text or numbers of an answer that the event loop handles itself, in about a millisecond; more go to a thread."""
_TEXT_THREADS = 2


@dataclass(frozen=True)
class Answers:
    """One for each text, and the tokens that were run for them."""

    values: list[Any]
    num_tokens: int


class Service:
    """Made in the event loop of a worker."""

    def __init__(self, packages: Mapping[str, Path], models: dict[str, Model], config: ServeConfig, metrics: Metrics, worker: int) -> None:
        self.config = config
        self.metrics = metrics
        self.row = metrics.row(worker)
        self.models = models
        self.keys = read_keys(config)
        self.engine = Engine(config.queue_tokens, config.queue_seconds, self._on_batch)
        self.is_draining = False
        self._packages = packages
        self._threads = ThreadPoolExecutor(_TEXT_THREADS, thread_name_prefix="texts")
        self._reload = asyncio.Lock()

    def model(self, name: str) -> Model:
        """Refusal 404 for one that is not served."""
        if name not in self.models:
            raise Refusal(404, f"There is no model {name[:80]!r}; choose one of {sorted(self.models)}.")
        return self.models[name]

    async def answer(self, call: Call, model: Model, texts: Sequence[Any], options: Mapping[str, Any] | None = None) -> Answers:
        """The offline predictor's answers. Refusal 400 or 413 for texts that it does not take, 429 and 503 under overload."""
        if not 1 <= len(texts) <= self.config.max_texts:
            raise Refusal(400 if not texts else 413, f"A request must hold 1 to {self.config.max_texts} texts, got {len(texts)}.")
        work = asyncio.ensure_future(self._answer(model, texts, options or {}, size=len(call.body)))
        gone = asyncio.ensure_future(call.until_gone())
        try:
            await asyncio.wait((work, gone), timeout=self.config.timeout, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if gone.done():
                raise ClientGone
            raise Refusal(503, f"There was no answer within {self.config.timeout:g} seconds; ask again later.", retry_after=1)
        finally:
            work.cancel()
            gone.cancel()

    async def off_loop(self, size: int, function: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        """Call `function`, in a thread where `size` says that the event loop would stand still for long."""
        if size <= _INLINE:
            return function(*arguments, **options)
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*arguments, **options))

    async def reload(self) -> None:
        """Load packages and keys anew. What fails to load changes nothing; requests that wait get answers of the model they came for."""
        async with self._reload:
            try:
                keys = read_keys(self.config)
                self.models = await asyncio.to_thread(load_models, self._packages, threads_of(self.config))
                self.keys = keys
            except Exception as error:  # Whatever it is, the server goes on with what it has.
                reason = str(error) if isinstance(error, TrtbertError) else type(error).__name__
                log.error("reload failed", extra={"reason": reason}, exc_info=not isinstance(error, TrtbertError))
                self.row.add("trtbert_reloads_total", "failed")
            else:
                log.info("reloaded", extra={"models": sorted(self.models)})
                self.row.add("trtbert_reloads_total", "done")

    async def close(self) -> None:
        await self.engine.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, model: Model, texts: Sequence[Any], options: Mapping[str, Any], *, size: int) -> Answers:
        self.engine.check_room()
        if model.task == "question-answering":
            options = {"max_windows": max(1, self.config.max_tokens // model.encoder.max_length), **options}
        try:
            job, num_tokens = await self.off_loop(size, _prepare, model, texts, options)
        except (ConfigError, InputError, UnsupportedError) as error:
            raise Refusal(400, str(error)) from error
        if sum(num_tokens) > self.config.max_tokens:
            raise Refusal(413, f"The texts have {sum(num_tokens)} tokens; a request may have {self.config.max_tokens}.")
        try:
            check_answer_size(model.predictor.manifest.model, job, len(texts), options)
        except InputError as error:
            raise Refusal(413, str(error)) from error
        values = await self.engine.run(model, job, num_tokens)
        return Answers(values, sum(map(len, job.encodings)))

    def _on_batch(self, facts: BatchFacts) -> None:
        for name, value in (
            ("trtbert_batches_total", 1),
            ("trtbert_texts_total", facts.num_texts),
            ("trtbert_tokens_total", facts.num_tokens),
            ("trtbert_padding_tokens_total", facts.num_padding),
            ("trtbert_engine_seconds_total", facts.seconds),
        ):
            self.row.add(name, facts.model, value=value)
        for seconds in facts.waited:
            self.row.observe("trtbert_wait_seconds", facts.model, seconds)


def threads_of(config: ServeConfig) -> int:
    """Threads of one inference."""
    return config.threads or max(1, num_cores() // config.workers)


def _prepare(model: Model, texts: Sequence[Any], options: Mapping[str, Any]) -> tuple[Job, list[int]]:
    job = model.predictor.job(texts, **options)
    return job, [count_tokens(encoding) for encoding in job.encodings]
