"""Time several ways to run one encoder on the same feeds, each in a process of its own.

The threads of PyTorch and of ONNX Runtime go on spinning for a while after a run and would slow another contender. So the rounds
are interleaved: one process runs at a time, and hands over only when its own threads have come to rest. Between its turns a
process waits on a pipe.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from feeds import Feeds

Array = npt.NDArray[Any]
Run = Callable[[], Array]
Shape = tuple[int, int]
"""Batch and length in tokens."""

THREADS = os.cpu_count() or 1
WARM_UP, WARM_UP_SECONDS = 2, 1.0
"""Runs at the start of every turn that are not counted: they wake the threads and fill the caches. After a second there are enough."""
MIN_ROUNDS = 2
MAX_DIFFERENCE = 1e-4
"""Of the answers' scale: contenders that differ by more do not compute the same."""
MIN_COSINE = 0.7
"""The same for INT8. Texts of random words show it at its worst: ONNX Runtime's static INT8 of MiniLM gives 0.80, trtbert's 0.99."""
NOISE = 1.02
"""Ratios of times below this are no difference: two runs of one and the same file differ by as much."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model folder run by PyTorch, as it is or compiled by `torch.compile`, a trtbert package, an .onnx file on ONNX Runtime with all its
    optimisations, or a file on OpenVINO."""

    name: str
    kind: Literal["torch", "torch.compile", "package", "onnx", "openvino"]
    path: Path
    is_pooled: bool = False
    """For torch: give the normalised mean over the tokens, as the package of an embedder does."""
    precision_hint: str | None = None
    """For openvino: f32 keeps it from computing in 16 bits where the CPU has them, as it does by default."""
    is_int8: bool = False
    is_compared: bool = True
    """Whether it has to answer as the first one does: not so for models that differ."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds of one contender at one shape: a list for each round."""

    rounds: list[list[float]]

    @property
    def num_runs(self) -> int:
        return sum(map(len, self.rounds))

    def percentile(self, percent: float) -> float:
        return float(np.percentile([run for turn in self.rounds for run in turn], percent))

    def share_of(self, other: "Timing") -> float:
        """Median over the rounds of this time divided by the other's: a busy machine slows both sides of a round."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return float(np.median([np.median(mine) / np.median(theirs) for mine, theirs in pairs]))


def race(
    contenders: Sequence[Contender], shapes: Mapping[Shape, int], *, rounds: int, seconds: float, threads: int = THREADS
) -> dict[Shape, dict[str, Timing]]:
    """Time every contender at every shape, {shape: counted runs in a turn}, in `rounds` rounds, each on `threads` threads.

    After `seconds` a shape ends early, though not before its second round. Raises RuntimeError for a contender that fails, or that
    answers other than the first one.
    """
    with _started(contenders, threads) as workers:
        return {shape: _race_at(workers, [make_feeds(shape)], runs, rounds, seconds) for shape, runs in shapes.items()}


def race_batches(
    contenders: Sequence[Contender], workloads: Mapping[str, Sequence[Feeds]], *, rounds: int, seconds: float, threads: int = THREADS
) -> dict[str, dict[str, Timing]]:
    """The same for lists of batches, by their name; a run is all batches of one."""
    with _started(contenders, threads) as workers:
        return {name: _race_at(workers, batches, 1, rounds, seconds) for name, batches in workloads.items()}


def embed(contender: Contender, feeds: Sequence[Feeds], *, threads: int = THREADS) -> Array:
    """[N,D]: of each feed, one text without padding, the mean over its tokens, of length 1; by a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_embed, contender, feeds, threads).result()


def _embed(contender: Contender, feeds: Sequence[Feeds], threads: int) -> Array:
    bind = _load(contender, threads)
    means_ND = np.stack([bind(feed)()[0].mean(0) for feed in feeds])
    return np.asarray(means_ND / np.linalg.norm(means_ND, axis=1, keepdims=True))


@dataclass(frozen=True)
class _Worker:
    """The pipe to a contender's process."""

    contender: Contender
    pipe: Connection

    def receive(self) -> Any:
        try:
            return self.pipe.recv()
        except EOFError:
            raise RuntimeError(f"The process of {self.contender.name!r} ended; its own message stands above.") from None

    def ask(self, batches: Sequence[Feeds], runs: int) -> tuple[list[float], Array]:
        self.pipe.send((batches, runs))
        times, answer = self.receive()
        return times, answer


def _race_at(workers: Sequence[_Worker], batches: Sequence[Feeds], runs: int, rounds: int, seconds: float) -> dict[str, Timing]:
    deadline = time.monotonic() + seconds
    timings = {worker.contender.name: Timing(rounds=[]) for worker in workers}
    expected: Array | None = None
    for number in range(rounds):
        for worker in workers[:: -1 if number % 2 else 1]:
            times, answer = worker.ask(batches, runs)
            expected = answer if expected is None else expected
            _check_answer(worker.contender, answer, expected)
            timings[worker.contender.name].rounds.append(times)
        if time.monotonic() > deadline and number + 1 >= MIN_ROUNDS:
            break
    return timings


@contextmanager
def _started(contenders: Sequence[Contender], threads: int) -> Iterator[list[_Worker]]:
    """The contenders, loaded; their processes end with the block."""
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    processes = []
    try:
        for contender in contenders:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, contender, threads), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process ends a wait for its reply
            processes.append(process)
            workers.append(_Worker(contender, ours))
            workers[-1].receive()  # loaded: one at a time
        yield workers
    finally:
        for worker in workers:
            worker.pipe.close()
        for process in processes:
            process.join(5)
            process.kill()


def _check_answer(contender: Contender, answer: Array, expected: Array) -> None:
    if not contender.is_compared:
        return
    if contender.is_int8:
        cosine = float(cosines(answer, expected).mean())
        if not cosine >= MIN_COSINE:
            raise RuntimeError(f"{contender.name!r} does not compute the same: the mean cosine of its answer is {cosine:.3f}.")
        return
    difference = float(np.abs(answer - expected).max() / np.abs(expected).max())
    if not difference <= MAX_DIFFERENCE:
        raise RuntimeError(f"{contender.name!r} does not compute the same: its answer differs by {difference:.1e} of the scale.")


def cosines(actual: Array, expected: Array) -> Array:
    """Of the vectors along the last axis."""
    norms = np.linalg.norm(actual, axis=-1) * np.linalg.norm(expected, axis=-1)
    return np.asarray((actual * expected).sum(-1) / norms)


def _work(parent: Connection, contender: Contender, threads: int) -> None:
    """One contender's process: load, then answer requests until the parent closes the pipe."""
    bind = _load(contender, threads)
    parent.send("loaded")
    while True:
        try:
            batches, runs = parent.recv()
        except EOFError:
            return
        run = partial(_run_all, [bind(feeds) for feeds in batches])
        answer = _warm_up(run)
        times = [_milliseconds(run) for _ in range(runs)]
        _wait_until_idle()
        parent.send((times, answer))


def _run_all(runs: Sequence[Run]) -> Array:
    """The answer to the last batch."""
    return [run() for run in runs][-1]


def _warm_up(run: Run) -> Array:
    start = time.perf_counter()
    for _ in range(WARM_UP):
        answer = run()
        if time.perf_counter() - start > WARM_UP_SECONDS:
            break
    return answer


def _load(contender: Contender, threads: int) -> Callable[[Feeds], Run]:
    """A function that prepares feeds, once, and gives what is timed."""
    match contender.kind:
        case "torch" | "torch.compile":
            return _load_torch(contender.path, threads, is_pooled=contender.is_pooled, is_compiled=contender.kind == "torch.compile")
        case "package":
            return _load_package(contender.path, threads)
        case "onnx":
            return _load_onnx(contender.path, threads)
        case "openvino":
            return _load_openvino(contender.path, threads, contender.precision_hint)


def make_feeds(shape: Shape) -> Feeds:
    """int32 ids of a BERT vocabulary with no padding, the same for all contenders."""
    ids = np.random.default_rng(0).integers(1000, 30000, shape, dtype=np.int32)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def _milliseconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def _wait_until_idle() -> None:
    """Until no thread of this process has used the CPU for 30 ms; at most 2 s."""
    deadline = time.monotonic() + 2
    used = -1.0
    while time.process_time() - used > 1e-3 and time.monotonic() < deadline:
        used = time.process_time()
        time.sleep(0.03)


def _load_torch(path: Path, threads: int, *, is_pooled: bool, is_compiled: bool) -> Callable[[Feeds], Run]:
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    model = AutoModel.from_pretrained(path, add_pooling_layer=False).eval()
    if is_compiled:
        model = torch.compile(model)

    def run(tensors: dict[str, Any]) -> Array:
        with torch.inference_mode():
            hidden_BSD = model(**tensors).last_hidden_state
            if is_pooled:
                mask_BS1 = tensors["attention_mask"].unsqueeze(-1).to(hidden_BSD.dtype)
                hidden_BSD = torch.nn.functional.normalize((hidden_BSD * mask_BS1).sum(1) / mask_BS1.sum(1))
        return np.asarray(hidden_BSD)

    return lambda feeds: partial(run, {name: torch.from_numpy(array).long() for name, array in feeds.items()})


def _load_package(path: Path, threads: int) -> Callable[[Feeds], Run]:
    from tokenizers import Tokenizer

    from trtbert import open_package
    from trtbert.runtime import open_runtime

    package = open_package(path)
    runtime = open_runtime(package, threads=threads)
    names = {tensor.name for tensor in runtime.inputs}
    vocab_size = Tokenizer.from_file(str(package.tokenizer_path)).get_vocab_size()

    def run(feeds: Feeds) -> Array:
        return next(iter(runtime.run(feeds).values()))

    def bind(feeds: Feeds) -> Run:
        known = feeds | {"input_ids": feeds["input_ids"] % vocab_size}  # a pruned vocabulary has fewer
        return partial(run, {name: array.astype(np.int32) for name, array in known.items() if name in names})

    return bind


def _load_onnx(path: Path, threads: int) -> Callable[[Feeds], Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    dtypes = {node.name: np.int64 if node.type == "tensor(int64)" else np.int32 for node in session.get_inputs()}

    def run(feeds: Feeds) -> Array:
        return np.asarray(session.run(None, feeds)[0])

    return lambda feeds: partial(run, {name: feeds[name].astype(dtype) for name, dtype in dtypes.items()})


def _load_openvino(path: Path, threads: int, precision_hint: str | None) -> Callable[[Feeds], Run]:
    from trtbert.runtime.openvino import import_openvino

    openvino = import_openvino()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    config |= {} if precision_hint is None else {"INFERENCE_PRECISION_HINT": precision_hint}
    model = openvino.Core().read_model(path)
    compiled = openvino.compile_model(model, "CPU", config)
    request, output = compiled.create_infer_request(), compiled.output(0)
    dtypes = {port.any_name: port.element_type.to_dtype() for port in model.inputs}

    def run(feeds: Feeds) -> Array:
        return np.array(request.infer(feeds)[output])

    return lambda feeds: partial(run, {name: feeds[name].astype(dtype) for name, dtype in dtypes.items()})
