"""Time several ways to run one encoder on the same feeds, each in a process of its own.

The threads of PyTorch and of ONNX Runtime go on spinning for a while after a run and would slow another contender: a process hands over
only when its own threads have come to rest.
"""

import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from feeds import Feeds

from trtbert.turns import rounds, wait_until_idle
from trtbert.worker_process import Worker, worker

Array = npt.NDArray[Any]
Run = Callable[[], Array]
Shape = tuple[int, int]
"""Batch and length in tokens."""
Workload = tuple[Sequence[Feeds], int]
"""Batches, and how often they run in a turn."""
Name = TypeVar("Name", bound=Hashable)

THREADS = os.cpu_count() or 1
WARM_UP, WARM_UP_SECONDS = 2, 1.0
"""Runs at the start of every turn that are not counted: they wake the threads and fill the caches. After a second there are enough."""
MIN_ROUNDS = 2
MANY_TOKENS = 4096
"""Of a batch from here on, a contender has a new process each turn: side by side, BERT-base in all ways takes more than 24 GB."""
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


Timings = dict[str, Timing]
"""By the contender's name."""


def race(contenders: Sequence[Contender], shapes: Mapping[Shape, int], *, max_rounds: int, seconds: float) -> dict[Shape, Timings]:
    """Time every contender at every shape, {shape: counted runs in a turn}, in `max_rounds` rounds, on `THREADS` threads each.

    After `seconds` a shape ends early, though not before its second round. Raises UnsupportedError for a contender whose process dies,
    RuntimeError for one that answers other than the first one, and what a contender raises.
    """
    workloads = {shape: ([make_feeds(shape)], runs) for shape, runs in shapes.items()}
    return _race(contenders, workloads, max_rounds, seconds)


def race_batches(
    contenders: Sequence[Contender], workloads: Mapping[str, Sequence[Feeds]], *, max_rounds: int, seconds: float
) -> dict[str, Timings]:
    """The same for lists of batches, by their name; a run is all batches of one."""
    return _race(contenders, {name: (batches, 1) for name, batches in workloads.items()}, max_rounds, seconds)


def embed(contender: Contender, feeds: Sequence[Feeds]) -> Array:
    """[N,D]: of each feed, one text without padding, the mean over its tokens, of length 1; by a process of its own."""
    means_ND = _call_alone(contender, _means, feeds)
    return np.asarray(means_ND / np.linalg.norm(means_ND, axis=1, keepdims=True))


def _race(contenders: Sequence[Contender], workloads: Mapping[Name, Workload], max_rounds: int, seconds: float) -> dict[Name, Timings]:
    small = {name: workload for name, workload in workloads.items() if _num_tokens(workload) < MANY_TOKENS}
    timings = dict[Name, Timings]()
    if small:
        with ExitStack() as stack:
            workers = [stack.enter_context(_started(contender)) for contender in contenders]
            for name, workload in small.items():
                turns = [partial(process.call, _turn, *workload) for process in workers]
                timings[name] = _race_turns(contenders, turns, max_rounds, seconds)
    for name, workload in workloads.items():
        if name not in small:
            turns = [partial(_call_alone, contender, _turn, *workload) for contender in contenders]
            timings[name] = _race_turns(contenders, turns, max_rounds, seconds)
    return {name: timings[name] for name in workloads}


def _num_tokens(workload: Workload) -> int:
    """Of the largest batch."""
    batches, _ = workload
    return max(feeds["input_ids"].size for feeds in batches)


def _race_turns(
    contenders: Sequence[Contender], turns: Sequence[Callable[[], tuple[list[float], Array]]], max_rounds: int, seconds: float
) -> Timings:
    deadline = time.monotonic() + seconds
    timings = {contender.name: Timing(rounds=[]) for contender in contenders}
    for number, given in enumerate(rounds(turns), start=1):
        for contender, (times, answer) in zip(contenders, given, strict=True):
            _check_answer(contender, answer, given[0][1])
            timings[contender.name].rounds.append(times)
        if number == max_rounds or (number >= MIN_ROUNDS and time.monotonic() > deadline):
            break
    return timings


def _call_alone(contender: Contender, function: Callable[..., Any], *arguments: Any) -> Any:
    """In a process that ends with it."""
    with _started(contender) as process:
        return process.call(function, *arguments)


@contextmanager
def _started(contender: Contender) -> Iterator[Worker]:
    """Its process, in which it is loaded."""
    with worker(contender.name, "Leave it out.") as process:
        process.call(_load, contender)
        yield process


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


_loaded: list[Callable[[Feeds], Run]] = []
"""What `_load` left for the turns, a function that prepares feeds, once, and gives what is timed: a process holds one contender."""


def _turn(batches: Sequence[Feeds], runs: int) -> tuple[list[float], Array]:
    """Milliseconds of each run, and the answer to the last batch."""
    run = partial(_run_all, [_loaded[0](feeds) for feeds in batches])
    answer = _warm_up(run)
    times = [_milliseconds(run) for _ in range(runs)]
    wait_until_idle()
    return times, answer


def _means(feeds: Sequence[Feeds]) -> Array:
    return np.stack([_loaded[0](feed)()[0].mean(0) for feed in feeds])


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


def _load(contender: Contender) -> None:
    match contender.kind:
        case "torch" | "torch.compile":
            _loaded.append(_load_torch(contender.path, is_pooled=contender.is_pooled, is_compiled=contender.kind == "torch.compile"))
        case "package":
            _loaded.append(_load_package(contender.path))
        case "onnx":
            _loaded.append(_load_onnx(contender.path))
        case "openvino":
            _loaded.append(_load_openvino(contender.path, contender.precision_hint))


def make_feeds(shape: Shape) -> Feeds:
    """int32 ids of a BERT vocabulary with no padding, the same for all contenders."""
    ids = np.random.default_rng(0).integers(1000, 30000, shape, dtype=np.int32)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def _milliseconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def _load_torch(path: Path, *, is_pooled: bool, is_compiled: bool) -> Callable[[Feeds], Run]:
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
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


def _load_package(path: Path) -> Callable[[Feeds], Run]:
    from tokenizers import Tokenizer

    from trtbert import open_package
    from trtbert.runtime import open_runtime

    package = open_package(path)
    runtime = open_runtime(package, threads=THREADS)
    names = {tensor.name for tensor in runtime.inputs}
    vocab_size = Tokenizer.from_file(str(package.tokenizer_path)).get_vocab_size()

    def run(feeds: Feeds) -> Array:
        return next(iter(runtime.run(feeds).values()))

    def bind(feeds: Feeds) -> Run:
        known = feeds | {"input_ids": feeds["input_ids"] % vocab_size}  # a pruned vocabulary has fewer
        return partial(run, {name: array.astype(np.int32) for name, array in known.items() if name in names})

    return bind


def _load_onnx(path: Path) -> Callable[[Feeds], Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    dtypes = {node.name: np.int64 if node.type == "tensor(int64)" else np.int32 for node in session.get_inputs()}

    def run(feeds: Feeds) -> Array:
        return np.asarray(session.run(None, feeds)[0])

    return lambda feeds: partial(run, {name: feeds[name].astype(dtype) for name, dtype in dtypes.items()})


def _load_openvino(path: Path, precision_hint: str | None) -> Callable[[Feeds], Run]:
    from trtbert.runtime.openvino import import_openvino

    openvino = import_openvino()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS}
    config |= {} if precision_hint is None else {"INFERENCE_PRECISION_HINT": precision_hint}
    model = openvino.Core().read_model(path)
    compiled = openvino.compile_model(model, "CPU", config)
    request, output = compiled.create_infer_request(), compiled.output(0)
    dtypes = {port.any_name: port.element_type.to_dtype() for port in model.inputs}

    def run(feeds: Feeds) -> Array:
        return np.array(request.infer(feeds)[output])

    return lambda feeds: partial(run, {name: feeds[name].astype(dtype) for name, dtype in dtypes.items()})
