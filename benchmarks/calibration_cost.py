"""Measure what entropy calibration costs on few and on many texts, beside ONNX Runtime's own on the few."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from feeds import write_feeds
from models import TITLES, get_model
from peers import NUM_BINS
from processes import Cost, median_cost, run_in_turn, script_command, trtbert_command
from rich.console import Console
from tables import TARGET_MISSED, cost_table, make_console, print_machine, print_verdict
from texts import calibration_feeds, read_singles, with_halves, write_texts

MAX_GROWTH = 1.10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/calibration_cost.py --model real --runs 3")
    parser.add_argument("--model", choices=TITLES, default="base", help="BERT-base size with random weights (the default), or MiniLM")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="default: those that come with trtbert, and halves of long ones")
    parser.add_argument("--num-texts", type=int, nargs=2, default=[64, 1024], metavar=("FEW", "MANY"), help="default: 64 1024")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="of each, interleaved; default: %(default)s")
    arguments = parser.parse_args()
    console = make_console()
    print_machine(console)
    few, many = arguments.num_texts
    with tempfile.TemporaryDirectory() as folder:
        commands = prepare(Path(folder), arguments.model, with_halves(read_singles(arguments.texts), many), few)
        costs = run_in_turn(commands, arguments.runs)
    what = f"texts of {arguments.texts or 'trtbert'}, the few of the same lengths as the many"
    console.print(cost_table(f"{TITLES[arguments.model]}: entropy calibration, from the graph to the thresholds", costs, what))
    return 0 if all(print_verdicts(console, {name: median_cost(runs) for name, runs in costs.items()}, few, many)) else TARGET_MISSED


def prepare(folder: Path, name: str, texts: Sequence[str], few: int) -> dict[str, list[str]]:
    """The model, its graphs and the texts in `folder`; gives the command of each way to calibrate."""
    model, package, dump, plain = get_model(name, folder / "model"), folder / "package", folder / "dump", folder / "plain.onnx"
    compiling = trtbert_command("compile", model, "-o", package, "--task", "feature-extraction", "--dump", dump)
    for command in (compiling, script_command("plain_export.py", model, plain)):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    many = write_texts(folder / "many.jsonl", texts)
    some = write_texts(folder / "few.jsonl", spread(texts, few))
    feeds = write_feeds(folder / "feeds.npz", calibration_feeds(package, some, few))
    graph = dump / "02-rewrite.onnx"
    return {
        ours(few): script_command("calibrate_once.py", package, graph, some, str(few)),
        ours(len(texts)): script_command("calibrate_once.py", package, graph, many, str(len(texts))),
        peer(few): script_command("peers.py", "entropy", plain, feeds, folder / "none"),
    }


def spread(texts: Sequence[str], num: int) -> list[str]:
    """`num` texts of evenly spread lengths, the longest one included: it is what takes the most memory."""
    longest_first = sorted(texts, key=len, reverse=True)
    return [longest_first[index * len(texts) // num] for index in range(num)]


def ours(num_texts: int) -> str:
    return f"trtbert, {num_texts} texts"


def peer(num_texts: int) -> str:
    return f"ONNX Runtime, {NUM_BINS} bins, {num_texts} texts"


def print_verdicts(console: Console, costs: dict[str, Cost], few: int, many: int) -> list[bool]:
    mine, more, theirs = costs[ours(few)], costs[ours(many)], costs[peer(few)]
    limit = MAX_GROWTH * mine.peak_bytes / 1e9
    return [
        print_verdict(console, f"memory on {many} texts", more.peak_bytes / 1e9, limit, f"GB, {more.peak_bytes / mine.peak_bytes:.2f}x"),
        print_verdict(console, f"seconds on {few} texts", mine.seconds, theirs.seconds, "s"),
        print_verdict(console, f"memory on {few} texts", mine.peak_bytes / 1e9, theirs.peak_bytes / 1e9, "GB"),
    ]


if __name__ == "__main__":
    sys.exit(main())
