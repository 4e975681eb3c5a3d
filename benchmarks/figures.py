"""Measure again every figure of the documentation, and write it into the places for it: `make figures`.

Figures are measured one after the other, each by a script of its own, whose output takes the place of what stood there; a figure that
fails keeps what it had. Scripts that miss a target have measured all the same.
"""

import argparse
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models import find_minilm
from places import fill
from runner import PROGRAM as RUNNER
from tables import TARGET_MISSED, progress

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BANKING77 = ("banking77/train.csv", "banking77/test.csv")
WNUT17 = ("wnut17/wnut17train.conll", "wnut17/emerging.dev.conll", "wnut17/emerging.test.annotated")
BROWN = ("brown.txt",)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What stands in the places of one name."""

    name: str
    command: str
    """{data}, {work} and {minilm} are folders, and each of MADE a package, which is made anew."""
    minutes: int
    """About, on two cores."""
    data: Sequence[str] = ()
    """Files of the folder of data, without which it is left out."""
    more: str = ""
    """Arguments for which alone it needs the data, and goes without them where there is none."""
    program: Path | None = None
    """A program of the project's build, without which it is left out."""


FIGURES = (
    Figure(
        name="minilm",
        command="python benchmarks/race.py --model real",
        minutes=15,
        data=BANKING77,
        more="--labelled {data}/banking77/train.csv {data}/banking77/test.csv",
    ),
    Figure(name="bert-base", command="python benchmarks/race.py --model base --num-mixed 32", minutes=40),
    Figure(
        name="calibration-methods",
        command="python benchmarks/accuracy.py --train {data}/banking77/train.csv --test {data}/banking77/test.csv",
        minutes=10,
        data=BANKING77,
    ),
    Figure(name="compile-cost", command="python benchmarks/compile_cost.py --runs 3 --install", minutes=15),
    Figure(name="calibration-cost", command="python benchmarks/calibration_cost.py --runs 3", minutes=25),
    Figure(name="text-lengths", command="python benchmarks/lengths.py", minutes=5),
    Figure(
        name="benchmark",
        command="trtbert benchmark {minilm-fp32} {minilm-int8} --batch-sizes 1,8 --lengths 32,128",
        minutes=5,
    ),
    Figure(
        name="serving",
        command="python benchmarks/serve.py {minilm-int8} --texts {data}/brown.txt --soak 5",
        minutes=12,
        data=BROWN,
    ),
    Figure(name="embedding", command="python benchmarks/embed.py", minutes=20),
    Figure(
        name="cpp-speed",
        command="python benchmarks/runner.py {minilm-openvino}",
        minutes=3,
        data=BROWN,
        more="--texts {data}/brown.txt",
        program=RUNNER,
    ),
    Figure(
        name="banking77",
        command="python benchmarks/compression.py banking77 {data}/banking77 --work {work}/banking77",
        minutes=300,
        data=BANKING77,
    ),
    Figure(
        name="wnut17",
        command="python benchmarks/compression.py wnut17 {data}/wnut17 --work {work}/wnut17",
        minutes=240,
        data=WNUT17,
    ),
)
MADE = {
    "minilm-fp32": "trtbert compile {minilm} -o {minilm-fp32} --force --runtime onnxruntime",
    "minilm-openvino": "trtbert compile {minilm} -o {minilm-openvino} --force --runtime openvino",
    "minilm-int8": "trtbert compile {minilm} -o {minilm-int8} --force --precision int8 --runtime openvino",
}
"""Packages in the folder of work, of the compiler as it is: those of an earlier run are replaced."""


def main() -> int:
    names = [figure.name for figure in FIGURES]
    minutes = ", ".join(f"{figure.name} {figure.minutes}" for figure in FIGURES)
    example = "python benchmarks/figures.py --data data --only minilm bert-base"
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"minutes, about: {minutes}. example: {example}")
    files = ", ".join((*BANKING77, *WNUT17, *BROWN))
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", default=names, help=f"default: all of {', '.join(names)}")
    parser.add_argument("--data", type=Path, metavar="DIR", help=f"folder of {files}; figures that need what is not there are left out")
    default = Path("build/figures")
    parser.add_argument("--work", type=Path, default=default, metavar="DIR", help="folder of models and packages; default: %(default)s")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    chosen = [figure for figure in FIGURES if figure.name in arguments.only]
    done = [measure(figure, arguments.data, arguments.work.absolute()) for figure in chosen]
    return 0 if all(done) else 1


def measure(figure: Figure, data: Path | None, work: Path) -> bool:
    """Whether its places are filled; else what was in the way is said."""
    missing = [name for name in figure.data if data is None or not (data / name).is_file()]
    if missing and not figure.more:
        return _leave_out(figure, f"it needs {', '.join(missing)} in the folder of --data")
    if figure.program is not None and not (ROOT / figure.program).is_file():
        return _leave_out(figure, f"it needs {figure.program}: docs/cpp.md says how it is built")
    if missing:
        progress(f"{figure.name}: without {', '.join(missing)} in the folder of --data, not all of it is measured")
    command = figure.command if missing or not figure.more else f"{figure.command} {figure.more}"
    progress(f"{figure.name}: {command} (about {figure.minutes} minutes)")
    folders = {"work": str(work), "minilm": str(find_minilm())} | ({} if data is None else {"data": str(data.absolute())})
    try:
        printed = run(command, folders, work)
    except subprocess.CalledProcessError as error:
        return _leave_out(figure, f"exit code {error.returncode} of {shlex.join(error.cmd)}")
    for name, folder in folders.items():
        printed = printed.replace(folder, name)  # no path of this machine
    fill(DOCS, figure.name, as_markdown(printed, command))
    return True


def run(command: str, folders: dict[str, str], work: Path) -> str:
    """What a command prints, after the packages that it names are made; CalledProcessError where one fails."""
    packages = {name: str(work / name) for name in MADE}
    for name in MADE:
        if f"{{{name}}}" in command:
            subprocess.run(_arguments(MADE[name], folders | packages), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    arguments = _arguments(command, folders | packages)
    done = subprocess.run(arguments, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, TARGET_MISSED):
        raise subprocess.CalledProcessError(done.returncode, arguments)
    return done.stdout


def as_markdown(printed: str, command: str) -> str:
    """What has no table of Markdown stands as it was printed."""
    return printed if "| --- |" in printed else textwrap.indent(f"$ {re.sub('[{}]', '', command)}\n{printed}", "    ")


def _arguments(command: str, places: dict[str, str]) -> list[str]:
    program, *arguments = (word.format_map(places) for word in shlex.split(command))
    start = [sys.executable, "-m", "trtbert"] if program == "trtbert" else [sys.executable]
    return [*start, *arguments]


def _leave_out(figure: Figure, why: str) -> bool:
    progress(f"{figure.name} is left as it was: {why}.")
    return False


if __name__ == "__main__":
    sys.exit(main())
