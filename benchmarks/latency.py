"""Time a package beside torch and beside plain exports of the same model on ONNX Runtime, each in a process of its own."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from contenders import NOISE, THREADS, Contender, Shape, Timing, race
from models import TITLES, get_model
from processes import script_command, trtbert_command
from rich.console import Console
from tables import latency_table, make_console, print_machine

PACKAGE, BASELINES = "trtbert", ("dynamo", "torchscript")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/latency.py --model real")
    parser.add_argument("--model", choices=TITLES, default="base", help="BERT-base size with random weights, or MiniLM")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8], metavar="N", help="default: 1 8")
    parser.add_argument("--tokens", type=int, default=128, metavar="N", help="length of every text; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=12, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=240, metavar="N", help="a batch size ends after this; default: %(default)s")
    parser.add_argument("--threads", type=int, default=THREADS, metavar="N", help="of each contender; default: all cores, %(default)s")
    arguments = parser.parse_args()
    console = make_console()
    print_machine(console)
    shapes = {(batch, arguments.tokens): 10 if batch == 1 else 3 for batch in arguments.batch_size}
    with tempfile.TemporaryDirectory() as folder:
        contenders = prepare(console, Path(folder), arguments.model)
        timings = race(contenders, shapes, rounds=arguments.rounds, seconds=arguments.seconds, threads=arguments.threads)
    title = f"{TITLES[arguments.model]}, fp32: tokens to last hidden state"
    console.print(latency_table(title, timings, PACKAGE, threads=arguments.threads))
    return 0 if print_winners(console, timings) else 1


def prepare(console: Console, folder: Path, model: str) -> list[Contender]:
    """The model, its plain exports and its package in `folder`, every one made by a process of its own."""
    source = get_model(model, folder / "model")
    contenders = [Contender(name="torch", kind="torch", path=source)]
    for exporter in BASELINES:
        console.print(f"Exporting with {exporter}")
        path = folder / exporter / "model.onnx"
        path.parent.mkdir()
        subprocess.run(script_command("plain_export.py", source, path, "--exporter", exporter), check=True, stdout=subprocess.DEVNULL)
        contenders.append(Contender(name=exporter, kind="onnx", path=path))
    console.print("Compiling with trtbert")
    command = trtbert_command("compile", source, "-o", folder / "package", "--task", "feature-extraction")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [*contenders, Contender(name=PACKAGE, kind="package", path=folder / "package")]


def print_winners(console: Console, timings: dict[Shape, dict[str, Timing]]) -> bool:
    """Who is the fastest at each shape; gives whether the package is not slower than either plain export."""
    is_passed = True
    for (batch, length), row in timings.items():
        fastest = min(row, key=lambda name: row[name].share_of(row[PACKAGE]))
        console.print(f"batch {batch}, {length} tokens: the fastest is {fastest}")
        for name in BASELINES:
            share = row[PACKAGE].share_of(row[name])
            verdict = "[red]FAIL  slower than[/]" if share > NOISE else "[green]pass[/]  not slower than"
            console.print(f"  {verdict} plain {name} on ONNX Runtime: {share:.3f} of its time (median over rounds; noise 2 %)")
            is_passed &= share <= NOISE
    return is_passed


if __name__ == "__main__":
    sys.exit(main())
