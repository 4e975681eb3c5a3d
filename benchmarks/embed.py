"""Measure `trtbert embed`: the speed-up from one worker to two of one thread each, and the memory that many short rows take."""

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from models import find_minilm
from packages import Calibration, compile_int8
from processes import trtbert_command
from rich.console import Console
from rich.table import Table
from tables import TARGET_MISSED, make_console, print_machine, print_verdict
from texts import read_singles

SAMPLE_SECONDS = 0.5
MIN_SPEEDUP = 1.6
MAX_DRIVER_MB, MAX_WORKER_MB, MAX_GROWTH = 1000, 1500, 1.25
"""The last: of the peak of driver or workers from a tenth of the rows to all of them."""
KINDS = ("driver", "workers", "Ray")
CALIBRATION = Calibration(texts=None, size=128, method="entropy")
"""Speed does not depend on it."""
_BATCH = 50_000
_WORDS = (2, 5)
"""Of a short row."""


@dataclass
class Run:
    """One command: its summary, and the peaks of what its processes hold, MB."""

    summary: dict[str, Any]
    seconds: float
    peaks: dict[str, float] = field(default_factory=dict)
    """By kind, the sum over its processes of the memory that is theirs alone (USS)."""
    resident: float = 0.0
    """The sum of the resident memory (RSS) of all, which counts shared pages several times."""

    @property
    def speed(self) -> float:
        """Rows a second while workers worked: without the start of Ray, and of Python and the model in each of them."""
        return float(self.summary["rows"] / (self.summary["wall_seconds"] - self.summary["start_seconds"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/embed.py --package my-embedder")
    parser.add_argument("--package", type=Path, metavar="PKG", help="of sentence-similarity; default: MiniLM in INT8, compiled now")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="that rows repeat for the speed-up; default: those of trtbert")
    parser.add_argument("--rows", type=int, default=20_000, metavar="N", help="for the speed-up; default: %(default)s")
    parser.add_argument("--short-rows", type=int, default=1_000_000, metavar="N", help="for the memory, 0 for none; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of the speed-up; default: %(default)s")
    arguments = parser.parse_args()
    console = make_console()
    print_machine(console, "ray", "pyarrow")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = arguments.package or compile_int8(
            find_minilm(), folder / "package", CALIBRATION, task="sentence-similarity", runtime="onnxruntime"
        )
        is_passed = measure_speed(console, package, folder, arguments)
        if arguments.short_rows:
            is_passed &= measure_memory(console, package, folder, arguments.short_rows)
    return 0 if is_passed else TARGET_MISSED


def measure_speed(console: Console, package: Path, folder: Path, arguments: argparse.Namespace) -> bool:
    source = write(folder / "texts.parquet", itertools.islice(itertools.cycle(read_singles(arguments.texts)), arguments.rows))
    runs: dict[int, list[Run]] = {1: [], 2: []}
    for number in range(arguments.rounds):
        for workers in (1, 2) if number % 2 == 0 else (2, 1):
            per_file = max(1, arguments.rows // 32)
            runs[workers].append(run([source], folder, package, "--workers", workers, "--rows-per-file", per_file))
    speeds = {workers: sorted(run.speed for run in found) for workers, found in runs.items()}
    table = Table(
        title=f"trtbert embed: {arguments.rows} rows, {runs[1][0].summary['tokens']} tokens",
        caption=f"{arguments.rounds} runs each in turn; one thread a worker; 32 files; rows a second after the start",
    )
    for heading in ("workers", "rows a second (median)", "min-max", "tokens a second", "seconds with the start"):
        table.add_column(heading, justify="right")
    for workers, found in runs.items():
        low, middle, high = speeds[workers][0], speeds[workers][len(found) // 2], speeds[workers][-1]
        tokens = middle * found[0].summary["tokens"] / arguments.rows
        seconds = sorted(run.seconds for run in found)[len(found) // 2]
        table.add_row(str(workers), f"{middle:.0f}", f"{low:.0f}-{high:.0f}", f"{tokens:.0f}", f"{seconds:.1f}")
    console.print(table)
    speedup = speeds[2][arguments.rounds // 2] / speeds[1][arguments.rounds // 2]
    return print_verdict(console, "two workers", speedup, MIN_SPEEDUP, "x the speed of one", is_floor=True)


def measure_memory(console: Console, package: Path, folder: Path, rows: int) -> bool:
    runs = {
        num: run([write(folder / f"short-{num}.parquet", short_texts(num))], folder, package, "--workers", 2) for num in (rows // 10, rows)
    }
    table = Table(
        title=f"trtbert embed: rows of {_WORDS[0]} to {_WORDS[1]} words, two workers of one thread",
        caption=f"peaks in MB, sampled every {SAMPLE_SECONDS:g} s: memory of their own (USS) summed over the processes; all resident (RSS)",
    )
    for heading in ("rows", *KINDS, "resident", "rows a second", "seconds", "worker-seconds"):
        table.add_column(heading, justify="right")
    for num, found in runs.items():
        peaks = (f"{found.peaks.get(kind, 0):.0f}" for kind in KINDS)
        worker_seconds = f"{found.summary['worker_seconds']:.0f}"
        table.add_row(str(num), *peaks, f"{found.resident:.0f}", f"{found.speed:.0f}", f"{found.seconds:.0f}", worker_seconds)
    console.print(table)
    few, many = runs.values()
    are_right = [
        print_verdict(console, "memory of the driver", many.peaks["driver"], MAX_DRIVER_MB, "MB", digits=0),
        print_verdict(console, "memory of the two workers", many.peaks["workers"], MAX_WORKER_MB, "MB", digits=0),
        *(
            print_verdict(console, f"growth of the {kind}", many.peaks[kind] / few.peaks[kind], MAX_GROWTH, "x from a tenth of the rows")
            for kind in ("driver", "workers")
        ),
    ]
    return all(are_right)


def run(sources: Sequence[Path], folder: Path, package: Path, *options: object) -> Run:
    """One command in a process of its own; RuntimeError where its output is not complete and in order."""
    output = folder / "out"
    command = trtbert_command("embed", *sources, "-o", output, "--package", package, "--force", *map(str, options))
    started = time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found = Run({}, 0.0)
    watching = threading.Thread(target=_watch, args=(psutil.Process(process.pid), found))
    watching.start()
    process.communicate()
    watching.join()
    if process.returncode:
        raise RuntimeError(f"Exit code {process.returncode} of: {' '.join(command)}")
    found.seconds = time.time() - started
    found.summary = json.loads((output / "_SUCCESS.json").read_text())
    files = [output / file["name"] for file in found.summary["files"]]
    found.summary["start_seconds"] = _start_seconds(found.summary, files)
    _check_order(sources, files)
    return found


def _start_seconds(summary: dict[str, Any], files: Sequence[Path]) -> float:
    """Until the first worker began: the end of the first file, less what it took."""
    ends = [file.stat().st_mtime for file in files]
    first = min(range(len(files)), key=ends.__getitem__)
    return float(summary["wall_seconds"] - (max(ends) - ends[first]) - summary["files"][first]["seconds"])


def _check_order(sources: Sequence[Path], files: Sequence[Path]) -> None:
    """Both sides are read a file at a time."""
    expected = (
        n for source in sources for batch in pq.ParquetFile(source).iter_batches(columns=["id"]) for n in batch.column(0).to_pylist()
    )
    found = (n for file in files for n in pq.read_table(file, columns=["id"]).column("id").to_pylist())
    if any(a != b for a, b in itertools.zip_longest(expected, found)):
        raise RuntimeError("The output does not hold the rows of the input, in order and once.")


def _watch(driver: psutil.Process, found: Run) -> None:
    while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
        sums, resident = dict.fromkeys(KINDS, 0.0), 0.0
        for member in (driver, *_children(driver)):
            try:
                memory = member.memory_full_info()
                kind = "driver" if member == driver else "workers" if "MapWorker" in " ".join(member.cmdline()) else "Ray"
            except psutil.Error:
                continue
            sums[kind] += memory.uss / 1e6
            resident += memory.rss / 1e6
        found.peaks = {kind: max(found.peaks.get(kind, 0.0), value) for kind, value in sums.items()}
        found.resident = max(found.resident, resident)
        time.sleep(SAMPLE_SECONDS)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def write(path: Path, texts: Iterator[str]) -> Path:
    """A Parquet file of numbered texts, written in batches."""
    numbers = itertools.count()
    with pq.ParquetWriter(path, pa.schema([("id", pa.int64()), ("text", pa.string())])) as writer:
        while batch := list(itertools.islice(texts, _BATCH)):
            writer.write_table(pa.table({"id": [next(numbers) for _ in batch], "text": batch}))
    return path


def short_texts(num: int) -> Iterator[str]:
    """A few words of trtbert's texts each, drawn with a seed."""
    words = sorted({word for text in read_singles(None) for word in text.split()})
    draw = random.Random(0)
    return (" ".join(draw.choices(words, k=draw.randint(*_WORDS))) for _ in range(num))


if __name__ == "__main__":
    sys.exit(main())
