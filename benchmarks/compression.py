"""Measure what compression costs and gives: each recipe on a teacher, its accuracy, size, predicted and measured speed, and time."""

import argparse
import csv
import json
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contenders import THREADS, Contender, Shape, Timing, race
from models import find_minilm
from processes import run_measured, trtbert_command
from rich.text import Text
from tables import make_console, markdown, print_machine

from trtbert.data import read_examples
from trtbert.evaluation import evaluate, metric_for
from trtbert.package import open_package
from trtbert.predictor.encoder import Encoder
from trtbert.runtime import open_runtime

RECIPES = Path(__file__).with_name("recipes")
SHAPES: dict[Shape, int] = {(1, 32): 30, (8, 32): 10}
"""Batch and tokens, with the runs of a turn: banking77's texts have 12 words in the mean, WNUT17's 18."""
INT8_OF = {"bilstm-int8": "bilstm", "cnn-bilstm-int8": "cnn-bilstm"}
"""Rows with no recipe of their own: another one's model, compiled in INT8."""
MAX_DIFFERENCE = 0.25
"""Between the speed that the MACs promise and the measured one, beyond which a row is flagged."""
TEACHER, TORCH = "teacher", "teacher, PyTorch"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A task, its files for training, for choosing the best epoch and for the score, and how long its models are trained."""

    task: str
    train: str
    dev: str | None
    """None: every tenth example of `train`, which then is not trained on."""
    test: str
    training: tuple[str, ...]


_MINILM_TRAINING = ("--learning-rate", "3e-4", "--batch-size", "32")
DATASETS = {
    "banking77": Dataset(
        task="text-classification",
        train="train.csv",
        dev=None,
        test="test.csv",
        training=(*_MINILM_TRAINING, "--max-length", "64", "--epochs", "2"),
    ),
    "wnut17": Dataset(
        task="token-classification",
        train="wnut17train.conll",
        dev="emerging.dev.conll",
        test="emerging.test.annotated",
        training=(*_MINILM_TRAINING, "--max-length", "96", "--epochs", "6"),
    ),
}
"""A recipe may set its own epochs: students, which begin with little, have more."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of one recipe."""

    name: str
    score: float
    """Of the compiled package on the test set, in percent."""
    metric: str
    parameters: int
    macs: int
    cpu_seconds: float
    """Of the recipe, with training, and compiling where it says how: of both cores, which a busy machine distorts less than the time."""
    precision: str


def main() -> int:
    example = "python benchmarks/compression.py banking77 DIR --work work"
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"example: {example}")
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("data", type=Path, help="folder of the data set")
    parser.add_argument("--work", type=Path, required=True, help="folder of the models; what is there already is not made again")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="recipes; default: all of the data set")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="of the timing; default: %(default)s")
    arguments = parser.parse_args()
    console, dataset = make_console(), DATASETS[arguments.dataset]
    print_machine(console)
    arguments.work.mkdir(parents=True, exist_ok=True)
    files = prepare(dataset, arguments.data, arguments.work)
    rows = list(measure_all(dataset, files, arguments.work, arguments.only))
    timings = time_all(rows, arguments.work, arguments.rounds)
    console.print(caption(timings))
    console.print(Text(table(rows, timings)))
    return 0


def prepare(dataset: Dataset, data: Path, work: Path) -> dict[str, Path]:
    """The files for train, dev and test, in the work folder."""
    suffix = Path(dataset.train).suffix
    files = {name: work / f"data-{name}{suffix}" for name in ("train", "dev", "test")}
    shutil.copyfile(data / dataset.test, files["test"])
    if dataset.dev is not None:
        shutil.copyfile(data / dataset.train, files["train"])
        shutil.copyfile(data / dataset.dev, files["dev"])
        return files
    with (data / dataset.train).open(encoding="utf-8", newline="") as file:
        heading, *examples = csv.reader(file)
    parts = {"dev": examples[::10], "train": [example for index, example in enumerate(examples) if index % 10]}
    for name, part in parts.items():
        with files[name].open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([heading, *part])
    return files


def measure_all(dataset: Dataset, files: Mapping[str, Path], work: Path, only: Sequence[str] | None) -> Iterator[Row]:
    """The teacher first, then each recipe on it."""
    yield measure(TEACHER, find_minilm(), dataset, files, work)
    for recipe in sorted(RECIPES.glob("*.toml")):
        if recipe.stem != TEACHER and (only is None or recipe.stem in only):
            yield measure(recipe.stem, work / TEACHER, dataset, files, work)
    for name, base in INT8_OF.items():
        if only is None or name in only:
            yield measure_int8(name, measure(base, work / TEACHER, dataset, files, work), files, work)


def measure(name: str, source: Path, dataset: Dataset, files: Mapping[str, Path], work: Path) -> Row:
    """Compress, compile and score one recipe; or read what an earlier run wrote of it."""
    done = work / f"{name}.json"
    if done.is_file():
        return Row(**json.loads(done.read_text(encoding="utf-8")))
    print(f"{name} ...", file=sys.stderr, flush=True)
    model, package, recipe = work / name, work / f"{name}.package", RECIPES / f"{name}.toml"
    told: list[str | Path] = ["--data", files["train"], "--eval-data", files["dev"], "--task", dataset.task, *dataset.training]
    cost = run_measured(trtbert_command("compress", source, "-o", model, "--recipe", recipe, *told, "--force"))
    if "compile" not in tomllib.loads(recipe.read_text(encoding="utf-8")):  # else compress has made the package
        run_measured(trtbert_command("compile", model, "-o", package, "--runtime", "onnxruntime", "--force"))
    facts = json.loads((model / "compression.json").read_text(encoding="utf-8"))["after"]
    metric, points = score(package, files["test"])
    row = Row(
        name=name,
        score=points,
        metric=metric,
        parameters=facts["parameters"],
        macs=facts["macs"],
        cpu_seconds=cost.cpu_seconds,
        precision=open_package(package).manifest.precision,
    )
    done.write_text(json.dumps(vars(row)), encoding="utf-8")
    return row


def measure_int8(name: str, base: Row, files: Mapping[str, Path], work: Path) -> Row:
    """The model of `base` in INT8; what it cost is the training and this compilation."""
    package, done = work / f"{name}.package", work / f"{name}.json"
    if done.is_file():
        return Row(**json.loads(done.read_text(encoding="utf-8")))
    options = ("--runtime", "onnxruntime", "--precision", "int8", "--calibration-data", files["train"], "--force")
    cost = run_measured(trtbert_command("compile", work / base.name, "-o", package, *options))
    points = score(package, files["test"])[1]
    row = replace(base, name=name, score=points, cpu_seconds=base.cpu_seconds + cost.cpu_seconds, precision="int8")
    done.write_text(json.dumps(vars(row)), encoding="utf-8")
    return row


def score(package: Path, test: Path) -> tuple[str, float]:
    """The metric of the task and its points, of the compiled package."""
    opened = open_package(package)
    facts = opened.manifest.model
    examples = read_examples(test, facts.task, labels=facts.labels)
    metric = metric_for(facts.task, examples)
    return metric, evaluate(Encoder(facts, open_runtime(opened), tokenizer=opened.tokenizer_path), examples, metric)


def time_all(rows: Sequence[Row], work: Path, rounds: int) -> dict[Shape, dict[str, Timing]]:
    """Every package and the teacher in PyTorch, in turn."""
    contenders = [Contender(name=TORCH, kind="torch", path=work / TEACHER, is_compared=False)]
    contenders += [Contender(name=row.name, kind="package", path=work / f"{row.name}.package", is_compared=False) for row in rows]
    return race(contenders, SHAPES, max_rounds=rounds, seconds=600)


def caption(timings: Mapping[Shape, Mapping[str, Timing]]) -> str:
    num_runs = " and ".join(f"{timings[shape][TEACHER].num_runs} runs" for shape in SHAPES)
    shapes = " and ".join(f"{batch} x {tokens} tokens" for batch, tokens in SHAPES)
    return f"{THREADS} threads; median (p10-p90) in ms of {shapes}, {num_runs}, interleaved."


def table(rows: Sequence[Row], timings: Mapping[Shape, Mapping[str, Timing]]) -> str:
    teacher = rows[0]
    headings = ["recipe", teacher.metric, "lost", "parameters", "MACs", "predicted"]
    for batch, tokens in SHAPES:
        headings += [f"{batch} x {tokens}, ms", "speed-up", "of PyTorch"]
    headings += ["CPU minutes", "flag"]
    return markdown(headings, (cells(row, teacher, timings) for row in rows))


def cells(row: Row, teacher: Row, timings: Mapping[Shape, Mapping[str, Timing]]) -> Iterator[str]:
    """Speed-ups are over the teacher's package, and over the teacher in PyTorch."""
    predicted, measured = teacher.macs / row.macs, []
    yield from (row.name, f"{row.score:.2f}", f"{teacher.score - row.score:+.2f}")
    yield from (f"{row.parameters / 1e6:.2f} M", f"{row.macs / teacher.macs:.0%}", f"{predicted:.2f}x")
    for shape in SHAPES:
        own, times = timings[shape][row.name], timings[shape]
        measured.append(1 / own.share_of(times[teacher.name]))
        yield f"{own.percentile(50):.2f} ({own.percentile(10):.2f}-{own.percentile(90):.2f})"
        yield from (f"{measured[-1]:.2f}x", f"{1 / own.share_of(times[TORCH]):.1f}x")
    yield f"{row.cpu_seconds / 60:.1f}"
    is_comparable = row.precision == teacher.precision
    far = [speed for speed in measured if abs(speed / predicted - 1) > MAX_DIFFERENCE]
    yield "measured is far from predicted" if is_comparable and far else ""


if __name__ == "__main__":
    sys.exit(main())
