"""What each check found -> the table of docs/kernel-proof.md."""

from collections.abc import Mapping, Sequence

from plugins.tools.mutation_check.checks import CHECKS, Finding
from plugins.tools.mutation_check.mutant import Mutant


def table(found: Mapping[Mutant, Sequence[Finding]]) -> str:
    lines = [f"| Planted bug | In | {' | '.join(CHECKS)} |", "| --- | --- |" + " --- |" * len(CHECKS)]
    for mutant, findings in found.items():
        cells = {finding.check: finding.how for finding in findings}
        file = mutant.file.rsplit("/", 1)[-1]
        lines.append(f"| {mutant.name} | `{file}` | {' | '.join(cells.get(check, '') for check in CHECKS)} |")
    return "\n".join(lines) + "\n"
