"""Times the C++ tokenizer beside Hugging Face's, and C++ predictions beside Python's, run about, on one thread each.

python cpp/benchmark/compare.py build/cpp/cpp/benchmark/runner_benchmark PACKAGE TEXTS    # PACKAGE of sentence-similarity, on OpenVINO
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"  # before tokenizers is there
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from tokenizers import Tokenizer

import trtbert

RUNS = 11


def main(program: str, package: str, texts: str) -> None:
    lines = Path(texts).read_text(encoding="utf-8").splitlines()
    file = str(Path(package) / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    print(f"{len(lines)} texts, {sum(map(len, lines))} characters; {RUNS} runs each, in turns; seconds: median (p10-p90)")
    _report(
        "tokenizer",
        lambda: _cpp(program, "tokenizer", file, texts),
        {"encode_batch": lambda: tokenizer.encode_batch(lines), "encode_batch_fast": lambda: tokenizer.encode_batch_fast(lines)},
    )
    predictor = trtbert.load(package, threads=1)
    _report("package", lambda: _cpp(program, "package", package, texts), {"predict": lambda: predictor.predict(lines)})


def _cpp(program: str, what: str, path: str, texts: str) -> float:
    done = subprocess.run([program, what, path, texts, "1"], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[0])


def _report(name: str, cpp: Callable[[], float], others: dict[str, Callable[[], object]]) -> None:
    seconds: dict[str, list[float]] = {"C++": [], **{other: [] for other in others}}
    for _ in range(RUNS):
        seconds["C++"].append(cpp())
        for other, call in others.items():
            begin = time.perf_counter()
            call()
            seconds[other].append(time.perf_counter() - begin)
    for other, values in seconds.items():
        ratio = np.median(values) / np.median(seconds["C++"])
        print(f"{name:10} {other:18} {_text(values)}  {ratio:.2f} of C++")


def _text(values: Iterable[float]) -> str:
    low, middle, high = np.percentile(list(values), (10, 50, 90))
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
