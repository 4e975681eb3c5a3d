"""Measure what INT8 costs: nearest class centroids of labelled texts, and cosines of the embeddings, FP32 beside INT8."""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from centroids import accuracy_by_centroids
from contenders import Array, cosines
from models import TITLES, get_model
from packages import Calibration, compile_fp32, compile_int8
from rich.console import Console
from rich.table import Table
from tables import TARGET_MISSED, make_console, print_machine, print_verdict, progress

import trtbert
from trtbert.data import Example, read_examples
from trtbert.tasks import Task

TASK: Task = "sentence-similarity"
FP32, AUTO, MIN_COSINE = "FP32", "INT8, auto", 0.995


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to calibrate, and the points that it may cost."""

    method: str
    max_drop: float
    has_smoothing: bool = True


WAYS = {
    "INT8, entropy, no SmoothQuant": Way(method="entropy", max_drop=1.0, has_smoothing=False),
    "INT8, entropy": Way(method="entropy", max_drop=1.0),
    AUTO: Way(method="auto", max_drop=0.5),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    accuracy: float
    """In percent, on the test texts."""
    test_ND: Array
    calibrated: str
    """The method that was taken."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/accuracy.py --train train.csv --test test.csv")
    parser.add_argument("--train", type=Path, required=True, metavar="FILE", help="labelled texts: .csv, .tsv or .jsonl, text and label")
    parser.add_argument("--test", type=Path, required=True, metavar="FILE", help="the same, of the same labels")
    parser.add_argument("--model", choices=TITLES, default="real", help="MiniLM (the default), or BERT-base size with random weights")
    parser.add_argument("--runtime", choices=("onnxruntime", "openvino"), default="onnxruntime", help="default: %(default)s")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="to calibrate on; default: those that come with trtbert")
    parser.add_argument("--num-texts", type=int, default=512, metavar="N", help="drawn from them; default: %(default)s")
    arguments = parser.parse_args()
    console = make_console()
    print_machine(console, "openvino")
    train, test = (read_examples(path, TASK) for path in (arguments.train, arguments.test))
    console.print(f"Centroids of {len(train)} texts of {arguments.train}, {len(test)} texts of {arguments.test} put to the nearest")
    with tempfile.TemporaryDirectory() as folder:
        packages = compile_all(Path(folder), arguments)
        results = {name: evaluate(package, train, test) for name, package in packages.items()}
    calibrated = Calibration(texts=arguments.texts, size=arguments.num_texts)
    console.print(accuracy_table(f"{TITLES[arguments.model]} on {arguments.runtime}", f"calibrated on {calibrated}", results))
    return 0 if all(print_verdicts(console, results)) else TARGET_MISSED


def compile_all(folder: Path, arguments: argparse.Namespace) -> dict[str, Path]:
    """The package in FP32, and in INT8 by each way."""
    model, runtime = get_model(arguments.model, folder / "model"), arguments.runtime
    packages = {FP32: folder / "fp32"}
    progress(f"Compiling: {FP32}")
    compile_fp32(model, packages[FP32], task=TASK, runtime=runtime)
    for number, (name, way) in enumerate(WAYS.items()):
        progress(f"Compiling: {name}")
        calibration = Calibration(texts=arguments.texts, size=arguments.num_texts, method=way.method, has_smoothing=way.has_smoothing)
        packages[name] = compile_int8(model, folder / f"int8-{number}", calibration, task=TASK, runtime=runtime)
    return packages


def evaluate(package: Path, train: Sequence[Example], test: Sequence[Example]) -> Result:
    predictor = trtbert.load(package)
    train_ND, test_ND = (predictor.encode([str(example.text) for example in examples]) for examples in (train, test))
    facts = predictor.manifest.quantization
    calibrated = "" if facts is None else facts.method + " and SmoothQuant" * facts.is_smoothed
    labels = ([example.label for example in examples] for examples in (train, test))
    return Result(accuracy=accuracy_by_centroids(train_ND, test_ND, *labels), test_ND=test_ND, calibrated=calibrated)


def accuracy_table(title: str, caption: str, results: Mapping[str, Result]) -> Table:
    table = Table(title=title, caption=f"{caption}; cosines of the test texts' embeddings to those of FP32")
    for heading in ("", "calibrated by", "accuracy %", "points", "mean cosine", "smallest"):
        table.add_column(heading, justify="left" if heading in ("", "calibrated by") else "right")
    for name, result in results.items():
        cosines_N = cosines(result.test_ND, results[FP32].test_ND)
        points = f"{result.accuracy - results[FP32].accuracy:+.2f}"
        row = (f"{result.accuracy:.2f}", points, f"{cosines_N.mean():.5f}", f"{cosines_N.min():.4f}")
        table.add_row(name, result.calibrated, *row)
    return table


def print_verdicts(console: Console, results: Mapping[str, Result]) -> list[bool]:
    cosine = float(cosines(results[AUTO].test_ND, results[FP32].test_ND).mean())
    return [
        *(
            print_verdict(console, f"cost of {name}", results[FP32].accuracy - results[name].accuracy, way.max_drop, "points")
            for name, way in WAYS.items()
        ),
        print_verdict(console, f"mean cosine of {AUTO}", cosine, MIN_COSINE, "", is_floor=True, digits=5),
    ]


if __name__ == "__main__":
    sys.exit(main())
