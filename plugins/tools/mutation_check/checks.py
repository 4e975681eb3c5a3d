"""A mutant -> what finds it: the numbers, the schedules, AddressSanitizer, ThreadSanitizer, or the emulation itself in one of them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from plugins.tools.emulated_build import ROOT, Build
from plugins.tools.mutation_check.libraries import OPS, changed_ops, mutated_library, mutated_sources
from plugins.tools.mutation_check.mutant import Mutant

CHECKS = ("numbers", "schedules", "address", "thread")
"""In the order of what they cost."""
SCHEDULES = (("0", "1"), ("1", "1"), ("2", "1"), ("3", "1"), ("3", "271828"), ("3", "31415926535"))
SANITIZED = SCHEDULES[::3]
FOUND, STOPPED, CRASHED = "found", "stopped", "crashed"
"""A check said so; the emulation ended the process, for what is undefined in CUDA; the process died."""
EMULATION = 86
"""The exit status of plugins/emulation."""
LIMIT_S = 300


@dataclass(frozen=True)
class Finding:
    check: str
    """One of CHECKS."""
    how: str
    """FOUND, STOPPED or CRASHED."""
    message: str


class FalseAlarm(Exception):
    """A check fails with no bug planted: what it says of a mutant would mean nothing."""


def check_without_a_bug(builds: Mapping[str, Build]) -> None:
    library = builds["plain"].library
    found = [*_of_numbers(library, list(OPS)), *_of_schedules(Driver(builds["plain"], library, []))]
    for variant in ("address", "thread"):
        found += _of_sanitizer(variant, Driver(builds[variant], builds[variant].library, []))
    if found:
        raise FalseAlarm("; ".join(f"{one.check} fails with no bug planted: {one.message}" for one in found))


def findings(mutant: Mutant, builds: Mapping[str, Build]) -> Iterator[Finding]:
    """In the order of CHECKS; whoever needs only the first need not wait for the others."""
    with tempfile.TemporaryDirectory() as folder:
        sources, ops = mutated_sources(mutant, Path(folder)), changed_ops(mutant, builds["plain"])
        plain = mutated_library(sources, "plain", builds["plain"])
        yield from _of_numbers(plain, ops)
        yield from _of_schedules(Driver(builds["plain"], plain, ops))
        for variant in ("address", "thread"):
            yield from _of_sanitizer(variant, Driver(builds[variant], mutated_library(sources, variant, builds[variant]), ops))


@dataclass(frozen=True)
class Driver:
    """tests/plugins/driver with the mutant's library in place of the one that it was built with."""

    build: Build
    library: Path
    ops: list[str]

    def run(self, schedule: tuple[str, str]) -> subprocess.CompletedProcess[str]:
        return _run([str(self.build.driver), *schedule, *self.ops], LD_LIBRARY_PATH=str(self.library.parent))


def _of_numbers(library: Path, ops: list[str]) -> Iterator[Finding]:
    done = _run([sys.executable, "-m", "tests.plugins.quick", str(library), *ops])
    if done.returncode != 0:
        yield _finding("numbers", done)


def _of_schedules(driver: Driver) -> Iterator[Finding]:
    outputs = []
    for schedule in SCHEDULES:
        done = driver.run(schedule)
        if done.returncode != 0:
            yield _finding("schedules", done)
            return
        outputs.append(done.stdout)
    different = sum(output != outputs[0] for output in outputs)
    if different:
        yield Finding("schedules", FOUND, f"{different} of {len(SCHEDULES)} schedules give other bits")


def _of_sanitizer(variant: str, driver: Driver) -> Iterator[Finding]:
    for schedule in SANITIZED:
        done = driver.run(schedule)
        if done.returncode != 0:
            yield _finding(variant, done)
            return


def _run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"it ran for more than {LIMIT_S} s")


def _finding(check: str, done: subprocess.CompletedProcess[str]) -> Finding:
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    told = [line for line in lines if any(word in line for word in ("SUMMARY", "CUDA emulation", "runtime error", "Error", "off by"))]
    message = (told or lines or [f"exit status {done.returncode}"])[-1]
    how = STOPPED if done.returncode == EMULATION else CRASHED if done.returncode < 0 else FOUND
    return Finding(check, how, message.strip())
