"""Fresh processes: how long they take, how much memory they hold at most, and when their first answer comes."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.05
TEXT = "Where is the card I ordered last week?"
_PACKAGE = "import sys, trtbert; print(len(trtbert.load(sys.argv[1]).predict([sys.argv[2]])), flush=True)"
_TORCH = """
import sys, torch
from transformers import AutoModel, AutoTokenizer
tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModel.from_pretrained(sys.argv[1])
with torch.inference_mode():
    print(len(model(**tokenizer([sys.argv[2]], return_tensors="pt")).last_hidden_state.mean(1)), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Cost:
    seconds: float
    cpu_seconds: float
    """Of all threads together, user and system: what a busy machine distorts less."""
    peak_bytes: int
    """The larger of two: the sum of the resident memory over the process and its descendants, sampled every 50 ms; and the kernel's
    exact peak of the largest process."""


def trtbert_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "trtbert", *map(str, arguments)]


def script_command(name: str, *arguments: str | Path, python: str = sys.executable) -> list[str]:
    """Another script of this folder; `python` is the interpreter that runs it."""
    return [python, str(Path(__file__).with_name(name)), *map(str, arguments)]


def run_measured(command: Sequence[str]) -> Cost:
    """Run `command` to its end; its standard output is dropped. Raises RuntimeError when it fails."""
    start, sampled = time.perf_counter(), 0
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    process = psutil.Process(child.pid)
    while (ended := os.wait4(child.pid, os.WNOHANG))[0] == 0:
        sampled = max(sampled, _tree_bytes(process))
        time.sleep(SAMPLE_SECONDS)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(ended[1])
    if child.returncode:
        raise RuntimeError(f"Exit code {child.returncode} of: {' '.join(command)}")
    used = ended[2]
    return Cost(seconds=seconds, cpu_seconds=used.ru_utime + used.ru_stime, peak_bytes=max(sampled, used.ru_maxrss * 1024))


def run_in_turn(commands: Mapping[str, Sequence[str]], runs: int) -> dict[str, list[Cost]]:
    """Each command `runs` times, one after the other and then again, so that a busy machine slows all of them alike."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            costs[name].append(run_measured(command))
    return costs


def median_cost(runs: Sequence[Cost]) -> Cost:
    """Median seconds, and the largest memory of all runs."""
    return Cost(
        seconds=statistics.median(run.seconds for run in runs),
        cpu_seconds=statistics.median(run.cpu_seconds for run in runs),
        peak_bytes=max(run.peak_bytes for run in runs),
    )


def _tree_bytes(process: psutil.Process) -> int:
    total = 0
    for member in (process, *_descendants(process)):
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def cold_start(package: Path) -> float:
    """Seconds from the start of a fresh interpreter to the first answer of a package."""
    return _seconds_to_first_line([sys.executable, "-c", _PACKAGE, str(package), TEXT])


def torch_cold_start(model: Path) -> float:
    """The same with transformers and torch."""
    return _seconds_to_first_line([sys.executable, "-c", _TORCH, str(model), TEXT])


def _seconds_to_first_line(command: list[str]) -> float:
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        _, errors = process.communicate()
    if process.returncode or line.strip() != "1":
        raise RuntimeError(f"A fresh process gave no answer:\n{errors}")
    return seconds
