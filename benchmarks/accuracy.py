"""Measure what INT8 costs: nearest class centroids of labelled texts, and cosines of the embeddings, FP32 beside INT8."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from contenders import Array, cosines
from models import TITLES, get_model
from packages import Calibration, compile_int8
from processes import trtbert_command
from rich.console import Console
from rich.table import Table
from tables import make_console, print_machine, print_verdict

import trtbert
from trtbert.data import Example, read_examples
from trtbert.metrics import accuracy
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
        packages = compile_all(console, Path(folder), arguments)
        results = {name: evaluate(package, train, test) for name, package in packages.items()}
    calibrated = Calibration(texts=arguments.texts, size=arguments.num_texts)
    console.print(accuracy_table(f"{TITLES[arguments.model]} on {arguments.runtime}", f"calibrated on {calibrated}", results))
    return 0 if all(print_verdicts(console, results)) else 1


def compile_all(console: Console, folder: Path, arguments: argparse.Namespace) -> dict[str, Path]:
    """The package in FP32, and in INT8 by each way."""
    model, runtime = get_model(arguments.model, folder / "model"), arguments.runtime
    packages = {FP32: folder / "fp32"}
    console.print(f"Compiling: {FP32}")
    command = trtbert_command("compile", model, "-o", packages[FP32], "--task", TASK, "--runtime", runtime)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for number, (name, way) in enumerate(WAYS.items()):
        console.print(f"Compiling: {name}")
        calibration = Calibration(texts=arguments.texts, size=arguments.num_texts, method=way.method, has_smoothing=way.has_smoothing)
        packages[name] = compile_int8(model, folder / f"int8-{number}", calibration, task=TASK, runtime=runtime)
    return packages


def evaluate(package: Path, train: Sequence[Example], test: Sequence[Example]) -> Result:
    predictor = trtbert.load(package)
    train_ND, test_ND = (predictor.encode([str(example.text) for example in examples]) for examples in (train, test))
    classes, centroids_CD = centroids(train_ND, [example.label for example in train])
    nearest = [classes[index] for index in (test_ND @ centroids_CD.T).argmax(1)]
    facts = predictor.manifest.quantization
    calibrated = "" if facts is None else facts.method + " and SmoothQuant" * facts.is_smoothed
    return Result(accuracy=accuracy([example.label for example in test], nearest), test_ND=test_ND, calibrated=calibrated)


def centroids(vectors_ND: Array, labels: Sequence[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], Array]:
    """The classes, and of each the mean of its vectors, of length 1."""
    classes = sorted(set(labels))
    class_N = np.array([classes.index(label) for label in labels])
    means_CD = np.stack([vectors_ND[class_N == index].mean(0) for index in range(len(classes))])
    return classes, means_CD / np.linalg.norm(means_CD, axis=1, keepdims=True)


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
