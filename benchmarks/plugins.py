"""Time TensorRT's plugins: engines with them beside engines without, and each kernel beside the roof of the card."""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import engine_times
from contenders import Timing
from gpu import Gpu, driver
from kernel_times import NEEDED_CAPABILITY, RUNS, Case, LaunchRecorder, Recorder, cases, measure
from models import TITLES, get_model
from plugin_tables import card_line, engine_table, kernel_table
from roofline import Card

import trtbert
from tests.gpu.library import library_path
from trtbert.builders.targets import check_combination, gpu_target
from trtbert.config import Precision, Target
from trtbert.errors import MissingRuntimeError, TrtbertError
from trtbert.runtime.plugins import ENVIRONMENT

ENGINE_NOTE = (
    "GPU: between CUDA events, all runs queued beforehand (not so of an engine that waits for the GPU itself, as the packed one does); "
    "wall: until the host has the GPU's word. Inputs and outputs on the GPU. Mixed lengths: evenly from an eighth of the longest, padded "
    "to it: native computes the padding, the plugin skips its keys in attention, packed computes none."
)
KERNEL_NOTE = (
    "Bytes: each tensor once. Peak: clock x SMs x the table in roofline.py, dense. Roof: the longer of bytes at the speed of the copy and "
    "operations at the peak, divided by the time. PyTorch: torch_kernels.py says with what, measured right after; - where it has no kernel."
)


def main() -> int:
    arguments = parse()
    try:
        target = checked_target(arguments.precision)
        os.environ[ENVIRONMENT] = str(library_path(target))
        parts = []
        for part in report(Gpu(), target, arguments):
            print(part, end="\n\n", flush=True)
            parts.append(f"{part}\n")
    except TrtbertError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if arguments.output is not None:
        arguments.output.write_text("\n".join(parts), encoding="utf-8")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/plugins.py --precision fp16 int8 -o t4.md")
    parser.add_argument("--model", choices=TITLES, default="base", help="BERT-base size with random weights (the default), or MiniLM")
    parser.add_argument("--precision", nargs="+", choices=NEEDED_CAPABILITY, help="of the engines; default: fp16, and int8 from sm75 on")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="of the engines, in turn; default: %(default)s")
    parser.add_argument("--only", choices=("engines", "kernels"), help="default: both")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.md", help="write the tables there too; default: nowhere")
    return parser.parse_args()


def checked_target(precisions: Sequence[Precision] | None) -> Target:
    """This GPU. Raises MissingRuntimeError without one or without the library for it, UnsupportedError for a precision it has not."""
    target: Any = gpu_target()
    if target is None:
        raise MissingRuntimeError("There is no GPU to time plugins on; python -m tests.gpu.preflight says what is missing.")
    if not library_path(target).is_file():
        raise MissingRuntimeError(f"{library_path(target)} is not there; build it: python -m tests.gpu.library")
    for precision in precisions or ():
        check_combination(target, "tensorrt", precision, "plugin")
    return target


def report(gpu: Gpu, target: Target, arguments: argparse.Namespace) -> Iterator[str]:
    """The lines and tables, as they come."""
    card = gpu.card()
    yield f"{card_line(card)}; {driver()}; {versions()}; host {platform.machine()}, load {os.getloadavg()[0]:.1f}"
    if arguments.only != "kernels":
        default = [name for name in ("fp16", "int8") if card.compute_capability >= NEEDED_CAPABILITY[name]]
        for precision in arguments.precision or default:
            yield engines(gpu, target, precision, arguments.model, arguments.rounds)
    if arguments.only != "engines":
        yield kernels(gpu, card, library_path(target))


def engines(gpu: Gpu, target: Target, precision: str, model: str, rounds: int) -> str:
    """The table of the engines of one precision."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = get_model(model, folder / "model")
        longest = engine_times.LONGEST[model]
        packages = engine_times.compile_engines(source, folder, target=target, precision=precision, longest=longest, report=progress)
        runtimes = {name: engine_times.load(package) for name, package in packages.items()}
        times = {}
        for batch in engine_times.batches(longest):
            progress(f"Timing engines: {precision}, {batch.num_rows} x {batch.length}")
            times[batch] = engine_times.race(runtimes, batch, gpu, precision=precision, rounds=rounds)
    runs = f"{rounds} rounds of {engine_times.RUNS} runs each, in turn, after as many that are not counted"
    return f"{TITLES[model]}, {precision}; {runs}.\n{ENGINE_NOTE}\n\n{engine_table(times)}"


def kernels(gpu: Gpu, card: Card, library: Path) -> str:
    """The table of the kernels alone."""
    ours, baseline = LaunchRecorder(library), torch_recorder()
    timings = []
    for case in cases(card.compute_capability):
        progress(f"Timing kernels: {case.kernel}, {case.dtype}, {case.shape}")
        timings.append((case, measure(case, ours, gpu), baseline and measure_baseline(case, baseline, gpu)))
    return f"Kernels alone, arrays of BERT-base's sizes; {RUNS} runs after as many that are not counted.\n{KERNEL_NOTE}\n\n" + kernel_table(
        timings, card
    )


def torch_recorder() -> Recorder | None:
    """None where PyTorch is not installed for a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    from torch_kernels import TorchRecorder  # only now: torch.compile wants a GPU

    return TorchRecorder()


def measure_baseline(case: Case, baseline: Recorder, gpu: Gpu) -> Timing | None:
    """None where PyTorch has no kernel for it."""
    try:
        return measure(case, baseline, gpu)
    except NotImplementedError:
        return None


def versions() -> str:
    """Of what is installed."""
    found = {"trtbert": trtbert.__version__}
    for name in ("tensorrt", "cuda-bindings", "torch"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return ", ".join(f"{name} {number}" for name, number in found.items())


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
