"""A package, or another way to run its source model, in a process of its own: what `Worker` calls there."""

import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtbert.benchmark.arrivals import Served, serve
from trtbert.benchmark.config import Library
from trtbert.errors import InputError
from trtbert.package import Manifest, open_package
from trtbert.runtime import Array, open_runtime
from trtbert.turns import wait_until_idle

Feeds = Mapping[str, Array]
TURN_SECONDS, MIN_RUNS, MAX_RUNS = 0.25, 2, 25
"""Of one turn; the run before them wakes the threads and is not counted."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What is timed."""

    name: str
    package: Path
    """For a way to run the source model: a package that was compiled from it."""
    library: Library | None = None
    """That runs the source model; None for the package itself."""
    graph: Path | None = None
    """The plain export, for the libraries that run one."""


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    run: Callable[[Feeds], Any]
    """What is timed."""
    answer: Callable[[Feeds], dict[str, Array]]


_loaded: list[_Loaded] = []
"""What `load` left for the turns: a process holds one contender."""


def load(contender: Contender, threads: int) -> None:
    """Raises a TrtbertError for what cannot be run here, ModuleNotFoundError where a library is missing."""
    _loaded.clear()  # first: two engines of a large model may not fit
    _loaded.append(_load_torch(contender, threads) if contender.library == "torch" else _load_engine(contender, threads))


def _load_engine(contender: Contender, threads: int) -> _Loaded:
    if contender.graph is None:
        runtime = open_runtime(open_package(contender.package, check_hashes=False), threads=threads)
    elif contender.library == "onnxruntime":
        from trtbert.runtime.ort import OrtRuntime

        runtime = OrtRuntime(contender.graph, threads=threads)
    else:
        from trtbert.runtime.openvino import OpenVinoRuntime

        runtime = OpenVinoRuntime(contender.graph, threads=threads)
    return _Loaded(run=runtime.run, answer=runtime.run)


def _load_torch(contender: Contender, threads: int) -> _Loaded:
    """The head is in the answers and not in the times: it is computed by numpy, which torch is not to be blamed for."""
    import torch

    from trtbert.checkpoint.quiet import quiet
    from trtbert.checkpoint.read import RawModel, read_checkpoint
    from trtbert.checkpoint.runner import TorchRuntime

    manifest = open_package(contender.package, check_hashes=False).manifest
    source = manifest.source
    with quiet():
        checkpoint = read_checkpoint(Path(source.path), task=manifest.model.task, tokenizer=_tokenizer(manifest), pooling=source.pooling)
    _check_source(manifest, checkpoint.sha256)
    torch.set_num_threads(threads)
    module = RawModel(checkpoint.model, checkpoint.task).eval()

    def run(feeds: Feeds) -> None:
        with torch.inference_mode():
            module(**{name: torch.from_numpy(array) for name, array in feeds.items()})

    return _Loaded(run=run, answer=TorchRuntime(checkpoint).run)


def export_plain(package: Path, output: Path) -> None:
    """Write the graph of the source model as `compile` exports it, nothing fused; raises what reading the model raises."""
    import onnx_ir as ir

    from trtbert.config import CompileConfig
    from trtbert.export import load_source

    manifest = open_package(package, check_hashes=False).manifest
    config = CompileConfig(task=manifest.model.task, tokenizer=_tokenizer(manifest), pooling=manifest.source.pooling)
    with tempfile.TemporaryDirectory() as scratch:
        source = load_source(Path(manifest.source.path), config, Path(scratch))
    _check_source(manifest, source.fingerprint["sha256"])
    ir.save(source.model, output, external_data=f"{output.name}.data")


def _tokenizer(manifest: Manifest) -> Path | None:
    return None if manifest.source.tokenizer is None else Path(manifest.source.tokenizer)


def _check_source(manifest: Manifest, sha256: str) -> None:
    if sha256 != manifest.source.sha256:
        raise InputError(
            f"The weights in {manifest.source.path} are not those that the package was compiled from: they have another sha256. "
            "Put those back, or compile the package again."
        )


def answer(feeds: Feeds) -> dict[str, Array]:
    return _loaded[0].answer(feeds)


def turn(feeds: Feeds) -> list[float]:
    """Milliseconds of the runs of one turn; at its end the threads have come to rest."""
    run = _loaded[0].run
    run(feeds)
    times: list[float] = []
    while len(times) < MIN_RUNS or (sum(times) < TURN_SECONDS * 1e3 and len(times) < MAX_RUNS):
        start = time.perf_counter()
        run(feeds)
        times.append((time.perf_counter() - start) * 1e3)
    wait_until_idle()
    return times


def serve_turn(feeds: Feeds, arrivals: list[float]) -> Served:
    """The same with a run at each of the arrivals, in seconds from now."""
    run = _loaded[0].run
    run(feeds)
    served = serve(arrivals, lambda: run(feeds))
    wait_until_idle()
    return served


def peak_megabytes() -> float:
    """The most memory that this process has held, Python and the libraries included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
