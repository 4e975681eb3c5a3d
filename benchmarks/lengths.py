"""Time packages beside each other by the length of the text: from which length on banded attention pays, say."""

import argparse
import sys
from pathlib import Path

from contenders import THREADS, Contender, race
from tables import latency_table, make_console, print_machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/lengths.py whole.package banded.package")
    parser.add_argument("packages", type=Path, nargs="+", metavar="PKG", help="the first is what the others are compared with")
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 128, 256, 384, 512], metavar="N", help="default: 64 to 512")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="default: %(default)s")
    arguments = parser.parse_args()
    console = make_console()
    print_machine(console)
    contenders = [Contender(name=path.name, kind="package", path=path, is_compared=False) for path in arguments.packages]
    timings = race(contenders, {(arguments.batch_size, tokens): 10 for tokens in arguments.tokens}, rounds=arguments.rounds, seconds=600)
    console.print(latency_table("tokens to answers", timings, contenders[0].name, threads=THREADS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
