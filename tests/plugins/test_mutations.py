"""Bugs that are planted in the kernels are found."""

import subprocess
import sys
from pathlib import Path

import pytest

from plugins.tools.emulated_build import ROOT
from plugins.tools.mutation_check.libraries import StaleMutant, mutated_sources
from plugins.tools.mutation_check.mutant import REDUCE, Mutant
from plugins.tools.mutation_check.page import made_of
from plugins.tools.mutation_check.planted import MUTANTS
from tests.plugins.variants import variant

PAGE = ROOT / "docs" / "kernel-proof.md"


@pytest.mark.slow
def test_every_planted_bug_is_found() -> None:
    """By the table, where the check has been run on these very sources: that takes minutes, and would end the same."""
    if made_of() in PAGE.read_text():
        rows = [line.rstrip(" |").split(" | ") for line in PAGE.read_text().splitlines()]
        found = {row[0].removeprefix("| "): row[2:] for row in rows if len(row) > 1}
        assert all(any(cell.strip() for cell in found[mutant.name]) for mutant in MUTANTS)
        return
    for name in ("plain", "address", "thread"):
        variant(name)
    done = subprocess.run([sys.executable, "-m", "plugins.tools.mutation_check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"{len(MUTANTS)} bugs, {len(MUTANTS)} found" in done.stdout


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_table_of_bugs_fits_the_kernels(mutant: Mutant, tmp_path: Path) -> None:
    sources = mutated_sources(mutant, tmp_path / "plugins")
    assert mutant.old not in (sources.folder / mutant.file).read_text() or mutant.old in mutant.new


def test_a_bug_whose_place_is_gone_is_an_error(tmp_path: Path) -> None:
    for old in ("no such text", "__syncthreads();"):
        with pytest.raises(StaleMutant, match=r"old: the text to replace occurs \d times in plugins/common/reduce.cuh, not once"):
            mutated_sources(Mutant("old", REDUCE, old, ""), tmp_path)


def test_the_page_names_every_bug() -> None:
    rows = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.read_text().splitlines()]
    assert [mutant.name for mutant in MUTANTS] == [row for row in rows if row in {mutant.name for mutant in MUTANTS}]
