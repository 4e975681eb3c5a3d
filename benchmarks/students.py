"""Time a student's INT8 package beside its FP32 package, on texts of random words of BERT's vocabulary."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from contenders import THREADS, Contender, race
from processes import trtbert_command
from tables import TARGET_MISSED, folder_bytes, latency_table, make_console, print_machine, print_verdict

MIN_SPEEDUP = 1.3
PRECISIONS = FP32, INT8 = "fp32", "int8"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/students.py student/")
    parser.add_argument("student", type=Path, help="a folder that trtbert compress --method student made")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8], metavar="N", help="default: 1 8")
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 128], metavar="N", help="length of every text; default: 32 128")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=120, metavar="N", help="a shape ends after this; default: %(default)s")
    parser.add_argument("--threads", type=int, default=THREADS, metavar="N", help="of each contender; default: all cores, %(default)s")
    arguments = parser.parse_args()
    console = make_console()
    print_machine(console)
    shapes = {(batch, tokens): 40 if batch == 1 else 10 for batch in arguments.batch_size for tokens in arguments.tokens}
    with tempfile.TemporaryDirectory() as folder:
        contenders = list(prepare(arguments.student, Path(folder)))
        for contender in contenders:
            console.print(f"{contender.name}: {folder_bytes(contender.path) / 1e6:.1f} MB")
        timings = race(contenders, shapes, rounds=arguments.rounds, seconds=arguments.seconds, threads=arguments.threads)
    console.print(latency_table("tokens to answers", timings, FP32, threads=arguments.threads))
    speedups = {shape: 1 / row[INT8].share_of(row[FP32]) for shape, row in timings.items()}
    are_passed = [
        print_verdict(console, f"speedup at {batch} x {tokens}", speedup, MIN_SPEEDUP, "x", is_floor=True)
        for (batch, tokens), speedup in speedups.items()
    ]
    return 0 if all(are_passed) else TARGET_MISSED


def prepare(student: Path, folder: Path) -> Iterator[Contender]:
    """The packages, each made by a process of its own."""
    for precision in PRECISIONS:
        command = trtbert_command("compile", student, "-o", folder / precision, "--precision", precision, "--runtime", "onnxruntime")
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield Contender(name=precision, kind="package", path=folder / precision, is_int8=precision == INT8)


if __name__ == "__main__":
    sys.exit(main())
