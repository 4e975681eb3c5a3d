"""The command: check the kernels, and write the page about them."""

import argparse
import sys
from pathlib import Path

from plugins.tools.kernel_report import compilation, gates, toolchain
from plugins.tools.kernel_report.architectures import ARCHITECTURES
from plugins.tools.kernel_report.page import page

EXAMPLE = "example: python -m plugins.tools.kernel_report --write docs/kernels.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m plugins.tools.kernel_report", description=__doc__, epilog=EXAMPLE)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there")
    parser.add_argument("--sm", type=int, nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES), help="only these architectures")
    arguments = parser.parse_args()
    try:
        kernels = compilation.kernels(arguments.sm)
    except toolchain.MissingToolchain as missing:
        print(missing, file=sys.stderr)
        return 2
    if arguments.write:
        arguments.write.write_text(page(kernels, toolchain.nvcc_release()))
        print(arguments.write)
    found = gates.breaches(kernels)
    for breach in found:
        print(breach)
    print(f"{len(kernels)} kernels, {len(found)} breaches")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
