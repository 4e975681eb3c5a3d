"""Time packages beside each other by the length of the text: how INT8 and attention in bands fare on long ones, say."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from contenders import Contender, race
from models import find_minilm, write_banded
from packages import Calibration, compile_fp32, compile_int8
from tables import latency_table, make_console, print_machine

TASK, RUNTIME = "sentence-similarity", "onnxruntime"
CALIBRATION = Calibration(texts=None, size=128, method="entropy")
"""Speed does not depend on it."""
WINDOWS = (32, 64)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/lengths.py whole.package banded.package")
    what = f"the first is what the others are compared with; default: MiniLM in FP32, in INT8, and in bands of {WINDOWS}, compiled now"
    parser.add_argument("packages", type=Path, nargs="*", metavar="PKG", help=what)
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 128, 256, 384, 512], metavar="N", help="default: 64 to 512")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=6, metavar="N", help="default: %(default)s")
    arguments = parser.parse_args()
    console = make_console()
    print_machine(console)
    with tempfile.TemporaryDirectory() as folder:
        packages = arguments.packages or list(compile_all(Path(folder)))
        contenders = [Contender(name=path.name, kind="package", path=path, is_compared=False) for path in packages]
        shapes = {(arguments.batch_size, tokens): 10 for tokens in arguments.tokens}
        timings = race(contenders, shapes, max_rounds=arguments.rounds, seconds=600)
    console.print(latency_table("tokens to answers", timings, contenders[0].name))
    return 0


def compile_all(folder: Path) -> Iterator[Path]:
    """MiniLM on ONNX Runtime in FP32, in INT8, and with each window."""
    minilm = find_minilm()
    yield compile_fp32(minilm, folder / "fp32", task=TASK, runtime=RUNTIME)
    yield compile_int8(minilm, folder / "int8", CALIBRATION, task=TASK, runtime=RUNTIME)
    for window in WINDOWS:
        banded = write_banded(folder / f"model-{window}", window)
        yield compile_fp32(banded, folder / f"window-{window}", task=TASK, runtime=RUNTIME)


if __name__ == "__main__":
    sys.exit(main())
