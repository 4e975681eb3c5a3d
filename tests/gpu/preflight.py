"""This machine -> what `make test-gpu` finds on it, and what it lacks, each with what to do.

python -m tests.gpu.preflight    # exits with 5 where anything is missing
"""

import sys

from tests.gpu.checks import CHECKS, Missing
from trtbert.builders.targets import gpu_target
from trtbert.errors import MissingRuntimeError

EXIT_MISSING = MissingRuntimeError.exit_code


def main() -> int:
    target = gpu_target()
    found, missing = preflight(target)
    for name, text in found.items():
        print(f"found    {name}: {text}")
    for name, text in missing.items():
        print(f"missing  {name}: {text}", file=sys.stderr)
    if missing:
        print(f"make test-gpu cannot start: {len(missing)} of {len(CHECKS)} things are missing.", file=sys.stderr)
    return EXIT_MISSING if missing else 0


def preflight(target: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """What was found and what is missing, by the names of CHECKS; `target` is this machine's GPU, None for none."""
    found: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name, check in CHECKS.items():
        try:
            found[name] = check(target)
        except Missing as error:
            missing[name] = str(error)
    return found, missing


if __name__ == "__main__":
    sys.exit(main())
