"""The driver reaches the lines of plugins/kernels and plugins/common."""

import json
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from plugins.tools.emulated_build import ROOT, Build
from tests.plugins.schedules import drive
from tests.plugins.variants import variant

pytestmark = pytest.mark.slow

WANTED = 0.95
FOLDERS = ("plugins/kernels/", "plugins/common/")


def covered_lines(build: Build) -> dict[str, dict[int, bool]]:
    """File -> line -> whether it ran, in any instance of its template."""
    ran: dict[str, dict[int, bool]] = defaultdict(dict)
    objects = sorted(build.folder.glob("plugins/**/kernels/*.gcda"))
    assert objects, "the driver left no counts"
    for counts in objects:
        printed = subprocess.run(["gcov", "--json-format", "--stdout", counts], capture_output=True, cwd=build.folder, check=True).stdout
        for report in map(json.loads, printed.splitlines()):
            for file in report["files"]:
                path = Path(report["current_working_directory"], file["file"]).resolve()
                if not path.is_relative_to(ROOT) or not str(path.relative_to(ROOT)).startswith(FOLDERS):
                    continue
                lines = ran[str(path.relative_to(ROOT))]
                for line in file["lines"]:
                    lines[line["line_number"]] = lines.get(line["line_number"], False) or line["count"] > 0
    return ran


def test_lines_of_the_kernels() -> None:
    if shutil.which("gcov") is None:
        pytest.skip("gcov is not on PATH; it comes with g++")
    build = variant("coverage")
    for counts in build.folder.glob("**/*.gcda"):
        counts.unlink()
    drive(build.driver, "in order")
    files = covered_lines(build)
    assert {path for path in files if path.endswith(".cu")} == {str(path.relative_to(ROOT)) for path in ROOT.glob("plugins/kernels/*.cu")}
    lines = [f"{path}:{number}" for path, of_file in sorted(files.items()) for number in of_file]
    missed = [f"{path}:{number}" for path, of_file in sorted(files.items()) for number, has_run in sorted(of_file.items()) if not has_run]
    share = 1 - len(missed) / len(lines)
    assert share >= WANTED, f"{share:.1%} of {len(lines)} lines have run, {WANTED:.0%} are wanted; not these: {', '.join(missed)}"
