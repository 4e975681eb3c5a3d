"""What each check found -> the table of docs/kernel-proof.md, and of which sources it is."""

import hashlib
from collections.abc import Mapping, Sequence

from plugins.tools.emulated_build import ROOT
from plugins.tools.mutation_check.checks import CHECKS, Finding
from plugins.tools.mutation_check.mutant import Mutant


def table(found: Mapping[Mutant, Sequence[Finding]]) -> str:
    lines = [f"| Planted bug | In | {' | '.join(CHECKS)} |", "| --- | --- |" + " --- |" * len(CHECKS)]
    for mutant, findings in found.items():
        cells = {finding.check: finding.how for finding in findings}
        file = mutant.file.rsplit("/", 1)[-1]
        lines.append(f"| {mutant.name} | `{file}` | {' | '.join(cells.get(check, '') for check in CHECKS)} |")
    return "\n".join([*lines, "", made_of()]) + "\n"


_SOURCES = (
    "plugins/capi.h",
    "plugins/common",
    "plugins/emulation",
    "plugins/kernels",
    "plugins/tools/mutation_check/checks.py",
    "plugins/tools/mutation_check/libraries.py",
    "plugins/tools/mutation_check/mutant.py",
    "plugins/tools/mutation_check/planted",
    "tests/plugins/arrays.py",
    "tests/plugins/cases",
    "tests/plugins/driver",
    "tests/plugins/kernels.py",
    "tests/plugins/numerics.py",
    "tests/plugins/quick.py",
    "tests/plugins/terms.py",
)
"""Kernels, what runs them, the bugs, and what looks for them."""


def made_of() -> str:
    """A sentence with the sha256 of all sources that decide which bugs are found."""
    digest, suffixes = hashlib.sha256(), {".cpp", ".cu", ".cuh", ".h", ".py"}
    for source in _SOURCES:
        files = [ROOT / source, *sorted((ROOT / source).rglob("*"))]
        for path in files:
            if path.is_file() and path.suffix in suffixes:
                digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return f"The check was last run on the sources of sha256 `{digest.hexdigest()}`."
