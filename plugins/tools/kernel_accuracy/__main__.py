"""The command: print the errors of both, or put them into a page."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from plugins.tools.emulated_build import BuildFailed, MissingTool, emulated_build
from plugins.tools.kernel_accuracy.comparison import ROWS, Comparison, comparisons
from plugins.tools.pages import between_marks
from tests.plugins.kernels import Kernels

EXAMPLE = "example: python -m plugins.tools.kernel_accuracy --write docs/kernel-proof.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m plugins.tools.kernel_accuracy", description=__doc__, epilog=EXAMPLE)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    arguments = parser.parse_args()
    try:
        kernels = Kernels(emulated_build("plain").library)
    except (MissingTool, BuildFailed) as error:
        print(error, file=sys.stderr)
        return 2
    text = table(comparisons(kernels))
    if arguments.write:
        arguments.write.write_text(between_marks(arguments.write.read_text(), "accuracy", text))
        print(arguments.write)
    else:
        print(text)
    return 0


def table(found: Iterable[Comparison]) -> str:
    lines = [f"| Type | Width | Mean of {ROWS} rows | Ours | Replaced |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {one.dtype.upper()} | {one.width} | {one.mean:g} | {_number(one.ours)} | {_number(one.replaced)} |" for one in found]
    return "\n".join(lines) + "\n"


def _number(error: float) -> str:
    return "NaN or infinite" if error == float("inf") else f"{error:.1e}"


if __name__ == "__main__":
    sys.exit(main())
