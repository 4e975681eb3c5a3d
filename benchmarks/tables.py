"""What every script prints: the machine and its versions, tables of times, and verdicts on targets; in a pipe as Markdown."""

import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from contenders import THREADS, WARM_UP, Shape, Timing
from processes import Cost, median_cost
from rich.console import Console
from rich.table import Table
from rich.text import Text

import trtbert
from trtbert.hardware import cpu_model

TARGET_MISSED = 4
"""The exit code of a script that has measured all and missed a target: that of `trtbert` where a budget does not hold."""


class MarkdownConsole(Console):
    """Makes a paragraph of each thing that is printed, and of a table one of Markdown, between its title and its caption."""

    def print(self, *objects: Any, **options: Any) -> None:
        for thing in objects:
            super().print(Text(markdown_of(thing)) if isinstance(thing, Table) else thing, **options)
            super().print()


def make_console() -> Console:
    """For a terminal as it is; for a pipe in Markdown, which figures.py puts into the documentation."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else MarkdownConsole(highlight=False, soft_wrap=True)


def progress(text: str) -> None:
    """What goes on, on the standard error: no part of what was measured."""
    print(text, file=sys.stderr, flush=True)


def markdown_of(table: Table) -> str:
    headings, cells = [column.header for column in table.columns], [column.cells for column in table.columns]
    parts = (table.title and f"**{table.title}**", markdown(headings, zip(*cells, strict=True)), table.caption)
    return "\n\n".join(str(part) for part in parts if part)


def markdown(headings: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    lines = [list(map(str, line)) for line in (headings, *rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def print_machine(console: Console, *packages: str) -> None:
    """The day, the hardware, and the versions of what every script uses and of `packages`."""
    names = ("torch", "transformers", "onnxruntime", "onnxscript", *packages)
    memory = psutil.virtual_memory().total / 2**30
    today = date.today().isoformat()
    console.print(
        f"{today}; {cpu_model()}, {os.cpu_count()} cores, {memory:.0f} GiB memory, {platform.system()}; load {os.getloadavg()[0]:.1f}"
    )
    console.print(f"trtbert {trtbert.__version__}, python {platform.python_version()}, " + ", ".join(f"{n} {version(n)}" for n in names))


def latency_table(title: str, timings: Mapping[Shape, Mapping[str, Timing]], baseline: str) -> Table:
    """A row for each shape and contender; the last column is the median over rounds of its time divided by the baseline's."""
    table = Table(title=title, caption=f"ms; {race_caption(timings)}")
    for heading in ("batch x tokens", "", "p50", "p10-p90", "p99", f"of {baseline}"):
        table.add_column(heading, justify="left" if heading in ("batch x tokens", "") else "right", no_wrap=True)
    for (batch, length), row in timings.items():
        for name, timing in row.items():
            p10, p50, p90, p99 = (timing.percentile(percent) for percent in (10, 50, 90, 99))
            share = f"{timing.share_of(row[baseline]):.2f}"
            table.add_row(f"{batch} x {length}", name, f"{p50:.1f}", f"{p10:.1f}-{p90:.1f}", f"{p99:.1f}", share)
        table.add_section()
    return table


def race_caption(timings: Mapping[Shape, Mapping[str, Timing]]) -> str:
    """How a race was run."""
    runs = dict.fromkeys(f"{next(iter(row.values())).num_runs} runs at batch {batch}" for (batch, _), row in timings.items())
    return f"no padding, {THREADS} threads; {', '.join(runs)}, up to {WARM_UP} warm-up runs a turn; one process each, interleaved rounds"


def cost_table(title: str, costs: Mapping[str, Sequence[Cost]], what: str) -> Table:
    """A row for each command; `what` tells what the commands did."""
    num = len(next(iter(costs.values())))
    table = Table(title=title, caption=f"{what}; {num} run(s) in fresh processes; resident memory of the whole process tree")
    for heading in ("", "seconds (median)", "min-max", "CPU seconds", "peak GB"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, runs in costs.items():
        median, seconds = median_cost(runs), [run.seconds for run in runs]
        span = f"{min(seconds):.1f}-{max(seconds):.1f}"
        table.add_row(name, f"{median.seconds:.1f}", span, f"{median.cpu_seconds:.1f}", f"{median.peak_bytes / 1e9:.2f}")
    return table


def print_verdict(console: Console, what: str, value: float, limit: float, unit: str, *, is_floor: bool = False, digits: int = 2) -> bool:
    """One line, pass or FAIL; gives whether `value` is at most `limit`, or with `is_floor` at least."""
    is_passed = value >= limit if is_floor else value <= limit
    verdict, bound = "[green]pass[/]" if is_passed else "[red]FAIL[/]", "at least" if is_floor else "at most"
    measured = f"{value:.{digits}f} {unit}".rstrip()
    console.print(f"{verdict}  {what}: {measured} (target: {bound} {limit:g})")
    return is_passed


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
