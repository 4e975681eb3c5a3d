"""A run whose driver is killed with SIGKILL, then ended with SIGTERM, goes on where it was, by the same command."""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.embed.conftest import Packages
from tests.embed.rows import make_rows, read_rows, write_rows
from tests.numerics import assert_close
from trtbert.predictor import load

pytestmark = pytest.mark.slow

ROWS, PER_FILE = 12000, 300


def _ended(command: list[str], journal: Path, num_lines: int, number: signal.Signals) -> tuple[int, str]:
    """Run the command until the journal has so many lines; its exit code and errors. Nothing that works for it outlives it."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    end = time.monotonic() + 120
    while not journal.exists() or journal.read_text().count("\n") < num_lines:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    agents = [member for member in family if "Agent" in member.name()]  # They look for their node every few seconds only.
    process.send_signal(number)
    code = process.wait()
    assert psutil.wait_procs([member for member in family if member not in agents], timeout=30)[1] == []
    for agent in agents:
        with suppress(psutil.NoSuchProcess):
            agent.kill()
    with process.stderr:
        return code, process.stderr.read()


def test_resume(package: Packages, tmp_path: Path) -> None:
    rows = make_rows(ROWS)
    source, output, partial = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out", tmp_path / "out.partial"
    embedder = package("sentence-similarity")
    command = [sys.executable, "-m", "trtbert", "embed", str(source), "-o", str(output), "--package", str(embedder), "--workers", "1"]
    command += ["--rows-per-file", str(PER_FILE)]
    journal = partial / "_JOURNAL.jsonl"
    assert _ended(command, journal, 3, signal.SIGKILL)[0] == -signal.SIGKILL
    assert not output.exists()
    finished = [json.loads(line)["shard"]["name"] for line in journal.read_text().splitlines()]
    assert 3 <= len(finished) < ROWS // PER_FILE
    lost, cut, *kept = finished
    (partial / lost).unlink()  # As a disk may lose it: its line alone does not count.
    (partial / cut).write_bytes((partial / cut).read_bytes()[:-1])
    times = {name: (partial / name).stat().st_mtime_ns for name in kept}
    with journal.open("a") as stream:
        stream.write('{"run": "cut o')  # The line that the killed driver was writing.

    num_lines = len(finished) + 3
    code, errors = _ended(command, journal, num_lines, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and "Traceback" not in errors and "SIGTERM received" not in errors, errors
    assert not output.exists() and journal.read_text().count("\n") < ROWS // PER_FILE
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ", in 3 runs: " in done.stdout and done.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out"]
    assert {name: (output / name).stat().st_mtime_ns for name in kept} == times
    assert sorted(path.name for path in output.iterdir()) == ["_SUCCESS.json", *(f"part-{i:05}.parquet" for i in range(ROWS // PER_FILE))]
    found = read_rows(output)
    assert [{"id": row["id"], "text": row["text"]} for row in found] == rows
    vectors = np.array([row["embedding"] for row in found], np.float32)
    assert_close(vectors, load(embedder).encode([row["text"] for row in rows]))
