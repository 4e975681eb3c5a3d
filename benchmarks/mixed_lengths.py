"""Measure how many texts of mixed lengths `predict` answers in a second, beside the same engine padded to the longest text of all."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from contenders import Array, Timing, cosines
from models import TITLES, get_model
from packages import Calibration, compile_int8
from rich.console import Console
from rich.table import Table
from tables import TARGET_MISSED, make_console, print_machine, print_verdict
from texts import draw_or_repeat, read_singles
from tokenizers import Tokenizer

import trtbert
from trtbert.predictor import Predictor, load_tokenizer, make_feeds, tokenize

MIN_SPEEDUP, MIN_COSINE = 2.0, 0.999
CALIBRATION = Calibration(texts=None, size=128, method="entropy")
"""Speed does not depend on it."""
BATCH = 32
PREDICT, PADDED = "predict", f"batches of {BATCH} as they come, padded to the longest of all"
Ways = Mapping[str, Callable[[], Array]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/mixed_lengths.py --texts banking77/test.csv")
    parser.add_argument("--model", choices=TITLES, default="real", help="MiniLM (the default), or BERT-base size with random weights")
    parser.add_argument("--runtime", choices=("onnxruntime", "openvino"), default="onnxruntime", help="default: %(default)s")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="to answer; default: those that come with trtbert, repeated")
    parser.add_argument("--num-texts", type=int, default=2000, metavar="N", help="drawn from them; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: %(default)s")
    arguments = parser.parse_args()
    console = make_console()
    print_machine(console, "openvino")
    texts = draw_or_repeat(read_singles(arguments.texts), arguments.num_texts)
    with tempfile.TemporaryDirectory() as folder:
        model = get_model(arguments.model, Path(folder, "model"))
        package = compile_int8(model, Path(folder, "package"), CALIBRATION, task="sentence-similarity", runtime=arguments.runtime)
        predictor = trtbert.load(package)
        tokenizer = load_tokenizer(predictor.package.tokenizer_path, max_length=predictor.manifest.model.max_length)
        print_lengths(console, [len(encoding) for encoding in tokenize(tokenizer, texts)], arguments.texts)
        timings = measure(
            {PREDICT: lambda: predictor.encode(texts), PADDED: lambda: encode_padded(predictor, tokenizer, texts)}, arguments.rounds
        )
    console.print(throughput_table(f"{TITLES[arguments.model]}, INT8 on {arguments.runtime}: sentence embeddings", timings, len(texts)))
    speedup = timings[PADDED].share_of(timings[PREDICT])
    return (
        0 if print_verdict(console, "throughput of predict", speedup, MIN_SPEEDUP, "x the padded one's", is_floor=True) else TARGET_MISSED
    )


def print_lengths(console: Console, lengths: Sequence[int], source: Path | None) -> None:
    shown = ", ".join(f"p{percent} {np.percentile(lengths, percent):.0f}" for percent in (10, 50, 90))
    padding = 1 - sum(lengths) / (max(lengths) * len(lengths))
    console.print(
        f"{len(lengths)} texts of {source or 'trtbert'}; tokens {shown}, longest {max(lengths)}: {padding:.0%} padding in the padded ones"
    )


def encode_padded(predictor: Predictor, tokenizer: Tokenizer, texts: Sequence[str]) -> Array:
    """[n,D]: what a caller does who gives every batch one shape."""
    encodings, facts = tokenize(tokenizer, texts), predictor.manifest.model
    length = max(map(len, encodings))
    batches = (encodings[start : start + BATCH] for start in range(0, len(encodings), BATCH))
    return np.concatenate([next(iter(predictor.runtime.run(make_feeds(batch, facts, length=length)).values())) for batch in batches])


def measure(ways: Ways, rounds: int) -> dict[str, Timing]:
    """Milliseconds of a whole run, in turn; RuntimeError where the warm-up runs, one each, do not give the same."""
    first, second = (way() for way in ways.values())
    cosine = float(cosines(first, second).min())
    if not cosine >= MIN_COSINE:
        raise RuntimeError(f"Both ways should give the same, but the smallest cosine of two embeddings is {cosine:.4f}.")
    timings = {name: Timing(rounds=[]) for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            ways[name]()
            timings[name].rounds.append([(time.perf_counter() - start) * 1e3])
    return timings


def throughput_table(title: str, timings: Mapping[str, Timing], num_texts: int) -> Table:
    num = next(iter(timings.values())).num_runs
    table = Table(title=title, caption=f"{num} runs each in turn after one warm-up run, one process, tokenizing included")
    for heading in ("", "texts a second (median)", "p10-p90", "seconds (median)"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, timing in timings.items():
        slow, median, fast = (num_texts / timing.percentile(percent) * 1e3 for percent in (90, 50, 10))
        table.add_row(name, f"{median:.0f}", f"{slow:.0f}-{fast:.0f}", f"{num_texts / median:.2f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
