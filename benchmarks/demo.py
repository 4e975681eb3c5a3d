"""Compile the real MiniLM to INT8 for this CPU, prove it, time it beside PyTorch, and ask it for the nearest texts to a question."""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from contenders import Contender, race
from models import find_minilm
from processes import cold_start, torch_cold_start, trtbert_command
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tables import folder_bytes, latency_table, make_console, print_machine

import trtbert
from trtbert.errors import TrtbertError
from trtbert.package import Manifest

SHAPES = {(1, 128): 12, (8, 128): 4}
ROUNDS, RACE_SECONDS = 8, 10.0
COLD_STARTS = 3
QUERY = "My bank card never arrived in the post"
TEXTS = {
    "banking": (
        "I am still waiting for the debit card you sent me.",
        "How do I change the PIN of my card?",
        "A payment on my statement is not mine.",
        "The cash machine kept my card.",
        "Which exchange rate do you use for transfers abroad?",
        "Can I open a second account in euros?",
        "The app does not accept my passcode any more.",
    ),
    "travel": (
        "The night train from Vienna reaches Venice at half past eight.",
        "Our luggage was left behind at the airport.",
        "Is breakfast part of the price of the room?",
        "The ferry to the island leaves twice a day in summer.",
        "You need no visa for a stay of less than ninety days.",
        "We walked the coast path in four days.",
    ),
    "cooking": (
        "Let the dough rise until it has doubled in size.",
        "Fry the onions slowly until they are golden.",
        "A pinch of salt brings out the taste of chocolate.",
        "Serve the soup cold, with basil and a little oil.",
        "Rest the meat for ten minutes before you carve it.",
        "Soak the beans overnight and change the water.",
        "Postpone adding the lemon until the sauce has cooled.",
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/demo.py")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo-output"), help="folder of the package; default: %(default)s")
    output = parser.parse_args().output
    console = make_console()
    try:
        return run_demo(console, output)
    except (subprocess.CalledProcessError, FileNotFoundError, RuntimeError, TrtbertError) as error:
        console.print(f"[bold red]The demo failed:[/] {escape(str(error))}")
        return 1


def run_demo(console: Console, output: Path) -> int:
    """The exit code: 0 when every stage is verified and the nearest text is about the question's subject."""
    start, model, package = time.perf_counter(), find_minilm(), output / "minilm"
    output.mkdir(parents=True, exist_ok=True)
    print_machine(console)
    console.print(f"Compiling all-MiniLM-L6-v2 to INT8 for this CPU into {package}")
    seconds = compile_model(model, package)
    manifest = trtbert.open_package(package).manifest
    console.print("Timing it beside PyTorch")
    contenders = (
        Contender(name="torch", kind="torch", path=model, is_pooled=True),
        Contender(name="trtbert INT8", kind="package", path=package, is_int8=True),
    )
    timings = race(contenders, SHAPES, max_rounds=ROUNDS, seconds=RACE_SECONDS)
    console.print("Starting it in fresh processes")
    cold = statistics.median(cold_start(package) for _ in range(COLD_STARTS))
    console.print(summary_table(model, package, manifest, seconds, f"{cold:.2f} s, torch {torch_cold_start(model):.2f} s"))
    console.print(latency_table("Latency", timings, "torch"))
    is_right = print_nearest(console, package) and all(stage.is_passed for stage in manifest.verification.stages)
    console.print(f"{'Done' if is_right else 'FAILED'} in {time.perf_counter() - start:.0f} s")
    return 0 if is_right else 1


def compile_model(model: Path, package: Path) -> float:
    """Seconds of `trtbert compile`, as a user runs it."""
    start = time.perf_counter()
    options = ("--precision", "int8", "--calibration-method", "auto", "--force")
    subprocess.run(trtbert_command("compile", model, "-o", package, *options), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def summary_table(model: Path, package: Path, manifest: Manifest, compile_seconds: float, cold_starts: str) -> Table:
    table = Table(title="Compiled and verified", show_header=False)
    table.add_row("source", f"{folder_bytes(model) / 1e6:.1f} MB")
    table.add_row("package", f"{folder_bytes(package) / 1e6:.1f} MB")
    table.add_row("compile", f"{compile_seconds:.1f} s")
    table.add_row("fused", ", ".join(f"{count} {op.removeprefix('Fused')}" for op, count in manifest.fusions.items()))
    if (int8 := manifest.quantization) is not None:
        smoothing = "smoothed" if int8.is_smoothed else "not smoothed"
        table.add_row("INT8", f"{len(int8.parts)} parts, thresholds by {int8.method}, {smoothing}; calibrated on {int8.num_texts} texts")
        table.add_row("squared error on texts held back", f"{int8.error:.2%} of the embeddings")
    table.add_row("runtime", f"{manifest.runtime} {manifest.versions[manifest.runtime]}, the faster one here")
    table.add_row("fresh process to first answer", cold_starts)
    for stage in manifest.verification.stages:
        verdict = "" if stage.is_passed else "  FAILED"
        table.add_row(
            f"verified after {stage.stage}", f"error {stage.max_error:.1e} of the scale, mean cosine {stage.mean_cosine:.6f}{verdict}"
        )
    return table


def print_nearest(console: Console, package: Path) -> bool:
    """The five nearest texts to the question; gives whether the first is about the same subject."""
    topics, texts = zip(*((topic, text) for topic, lines in TEXTS.items() for text in lines), strict=True)
    embeddings_TD = trtbert.load(package).encode([QUERY, *texts])
    cosines_T = embeddings_TD[1:] @ embeddings_TD[0]
    nearest = np.argsort(-cosines_T)[:5]
    table = Table(title=f"The nearest texts, of {len(texts)}, to: {QUERY}")
    table.add_column("cosine", justify="right")
    table.add_column("about")
    table.add_column("text")
    for index in nearest:
        table.add_row(f"{cosines_T[index]:.3f}", topics[index], texts[index])
    console.print(table)
    return bool(topics[nearest[0]] == "banking")


if __name__ == "__main__":
    sys.exit(main())
