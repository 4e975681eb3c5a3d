"""The command: plant each bug, print which check finds it, and end with status 1 where one is not found."""

import argparse
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from subprocess import CalledProcessError

from plugins.tools.emulated_build import Build, BuildFailed, MissingTool, emulated_build
from plugins.tools.mutation_check.checks import FalseAlarm, Finding, check_without_a_bug, findings
from plugins.tools.mutation_check.libraries import StaleMutant
from plugins.tools.mutation_check.mutant import Mutant
from plugins.tools.mutation_check.page import table
from plugins.tools.mutation_check.planted import MUTANTS
from plugins.tools.pages import between_marks

EXAMPLE = "example: python -m plugins.tools.mutation_check --write docs/kernel-proof.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m plugins.tools.mutation_check", description=__doc__, epilog=EXAMPLE)
    parser.add_argument("--all", action="store_true", help="run every check on every bug, not only those up to the first that finds it")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    parser.add_argument("--only", default="", metavar="PART", help="only bugs that have this in their name")
    parser.add_argument("--jobs", type=int, default=2, help="bugs at a time (default: %(default)s)")
    arguments = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if arguments.only in mutant.name]
    try:
        builds = {variant: emulated_build(variant) for variant in ("plain", "address", "thread")}
        found = _search(mutants, builds, arguments.jobs, None if arguments.all else 1)
    except (MissingTool, BuildFailed, StaleMutant, FalseAlarm) as error:
        print(error, file=sys.stderr)
        return 2
    except CalledProcessError as error:
        print(f"a mutant does not compile:\n{error.stderr}", file=sys.stderr)
        return 2
    if arguments.write:
        arguments.write.write_text(between_marks(arguments.write.read_text(), "mutants", table(found)))
        print(arguments.write)
    survivors = [mutant.name for mutant, of_mutant in found.items() if not of_mutant]
    for name in survivors:
        print(f"NOT FOUND: {name}")
    print(f"{len(found)} bugs, {len(found) - len(survivors)} found")
    return 1 if survivors else 0


def _search(mutants: list[Mutant], builds: Mapping[str, Build], jobs: int, limit: int | None) -> dict[Mutant, list[Finding]]:
    def search(mutant: Mutant) -> list[Finding]:
        found = list(islice(findings(mutant, builds), limit))
        told = "; ".join(f"{finding.check}, {finding.how}: {finding.message[:120]}" for finding in found)
        print(f"{mutant.name}: {told or 'NOT FOUND'}", flush=True)
        return found

    with ThreadPoolExecutor(jobs) as pool:
        without_a_bug = pool.submit(check_without_a_bug, builds)
        found = dict(zip(mutants, pool.map(search, mutants), strict=True))
        without_a_bug.result()
        return found


if __name__ == "__main__":
    sys.exit(main())
