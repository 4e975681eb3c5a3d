"""Time the C++ runner beside the Python package, one thread each: the tokenizer on all lines of a file, an embedder's package on some."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from contenders import Timing
from rich.table import Table
from tables import make_console, print_machine
from texts import draw, read_singles
from tokenizers import Tokenizer

import trtbert
from trtbert.turns import rounds

PROGRAM = Path("build/cpp/cpp/benchmark/runner_benchmark")
CPP = "C++"
Seconds = Callable[[], float]
"""Runs once, and gives how long that took."""


def main() -> int:
    example = "example: python benchmarks/runner.py minilm-package --texts brown.txt"
    parser = argparse.ArgumentParser(description=__doc__, epilog=example)
    parser.add_argument("package", type=Path, metavar="PKG", help="of sentence-similarity, on OpenVINO")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="one a line; default: those that come with trtbert")
    parser.add_argument("--num-texts", type=int, default=300, metavar="N", help="drawn from them for the package; default: %(default)s")
    parser.add_argument("--runs", type=int, default=11, metavar="N", help="of each, in turn; default: %(default)s")
    parser.add_argument("--program", type=Path, default=PROGRAM, metavar="FILE", help="of the build of cpp/; default: %(default)s")
    arguments = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = "1"  # which tokenizers reads at its first batch
    console = make_console()
    print_machine(console, "openvino", "tokenizers")
    texts = [" ".join(text.split()) for text in read_singles(arguments.texts)]
    some = draw(texts, arguments.num_texts)
    with tempfile.TemporaryDirectory() as folder:
        tokenizing = tokenizers_of(arguments.program, arguments.package, texts, Path(folder, "all.txt"))
        predicting = predictors_of(arguments.program, arguments.package, some, Path(folder, "some.txt"))
        for title, ways, read in (("tokenizing", tokenizing, texts), ("texts to embeddings", predicting, some)):
            console.print(table(f"{title}: {len(read)} texts, {sum(map(len, read))} characters", time_in_turn(ways, arguments.runs)))
    return 0


def tokenizers_of(program: Path, package: Path, texts: Sequence[str], file: Path) -> dict[str, Seconds]:
    """Whole texts, neither cut nor padded. Only `encode_batch_fast` of Hugging Face's gives no offsets."""
    path = package / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return {
        CPP: cpp(program, "tokenizer", path, texts, file),
        "tokenizers, encode_batch": python(lambda: tokenizer.encode_batch(texts)),
        "tokenizers, encode_batch_fast": python(lambda: tokenizer.encode_batch_fast(texts)),
    }


def predictors_of(program: Path, package: Path, texts: Sequence[str], file: Path) -> dict[str, Seconds]:
    predictor = trtbert.load(package, threads=1)
    return {CPP: cpp(program, "package", package, texts, file), "trtbert, predict": python(lambda: predictor.predict(texts))}


def cpp(program: Path, what: str, path: Path, texts: Sequence[str], file: Path) -> Seconds:
    """A process that runs once to warm up, and then for the time."""
    file.write_text("\n".join(texts), encoding="utf-8")

    def run() -> float:
        done = subprocess.run([program, what, path, file, "1"], stdout=subprocess.PIPE, text=True, check=True)
        return float(done.stdout.split()[0])

    return run


def python(call: Callable[[], object]) -> Seconds:
    """The same in this process."""

    def run() -> float:
        call()
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return run


def time_in_turn(ways: Mapping[str, Seconds], runs: int) -> dict[str, Timing]:
    taken = zip(*islice(rounds(list(ways.values())), runs), strict=True)
    return {name: Timing(rounds=[[seconds * 1e3] for seconds in own]) for name, own in zip(ways, taken, strict=True)}


def table(title: str, timings: Mapping[str, Timing]) -> Table:
    """The last column is the median over the rounds."""
    num = timings[CPP].num_runs
    table = Table(title=title, caption=f"one thread; {num} runs each in turn, each after a warm-up run")
    for heading in ("", "ms (p10-p90)", f"of {CPP}"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, timing in timings.items():
        p10, p50, p90 = (timing.percentile(percent) for percent in (10, 50, 90))
        table.add_row(name, f"{p50:.1f} ({p10:.1f}-{p90:.1f})", f"{timing.share_of(timings[CPP]):.2f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
