"""The orders in which the emulation runs the threads of a block, and what the driver prints under each."""

import subprocess
from pathlib import Path

SCHEDULES = {
    "in order": ("0",),
    "reversed": ("1",),
    "depth first": ("2",),
    "random 1": ("3", "1"),
    "random 2": ("3", "271828"),
    "random 3": ("3", "31415926535"),
}
"""The arguments of tests/plugins/driver."""


def drive(driver: Path, schedule: str, *, timeout: float = 600.0) -> dict[str, str]:
    """The hash of the output of each case; DriverFailed where the driver, a sanitizer or the emulation found an error."""
    done = subprocess.run([driver, *SCHEDULES[schedule]], capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise DriverFailed(done.returncode, f"{schedule}: exit status {done.returncode}\n{done.stderr[:6000]}")
    lines = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    hashes = dict(lines)
    assert len(hashes) == len(lines), "two cases have one name"
    return hashes


class DriverFailed(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
