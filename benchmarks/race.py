"""Race trtbert's packages against what else runs the same encoder on a CPU: speed by shape and on mixed lengths, and quality beside it."""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from contenders import NOISE, THREADS, WARM_UP, Contender, Timing, race, race_batches
from environments import PACKAGES
from models import TITLES, get_model
from packages import Calibration
from quality import compare, print_qualities, read_labelled
from rich.console import Console
from rich.table import Table
from rivals import NAMES, OWN, TORCH, make_own, make_rivals
from tables import make_console, print_machine, progress
from texts import calibration_feeds, draw, mixed_batches, read_singles, unseen_feeds

BATCH = 8
"""Of texts of mixed lengths."""
Timings = Mapping[str, Mapping[str, Timing]]
"""By the heading of a column and the name of a contender."""


def main() -> int:
    arguments = parse()
    console = make_console()
    print_machine(console, "openvino")
    console.print("Others' tools in environments of their own: " + ", ".join(pin for pins in PACKAGES.values() for pin in pins))
    names = {TORCH, OWN[0].name, *(arguments.only or NAMES)}
    calibration = Calibration(texts=None, size=arguments.num_texts)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = get_model(arguments.model, folder / "model")
        own = make_own(folder, model, calibration, names)
        package = own[0].path
        calibrated = calibration_feeds(package, None, calibration.size)
        rivals, failed = make_rivals(folder, model, calibrated, arguments.environments, names)
        contenders = [*rivals, *own]
        unseen = unseen_feeds(package, None, arguments.num_eval_texts, calibrated)
        labelled = arguments.labelled and read_labelled(package, arguments.labelled)
        qualities = compare(contenders, failed, unseen, labelled)
        contenders = [contender for contender in contenders if contender.name in qualities]
        print_qualities(console, TITLES[arguments.model], f"calibrated on {calibration}", qualities, failed, labelled)
        timings = time_shapes(console, contenders, arguments)
        timings |= time_texts(console, contenders, package, arguments)
    print_losses(console, timings, contenders)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/race.py --model real")
    add = parser.add_argument
    add("--model", choices=TITLES, default="base", help="BERT-base size with random weights (the default), or MiniLM")
    add("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"beside {TORCH} and {OWN[0].name}; default: {NAMES}")
    default = "default: %(default)s"
    add("--environments", type=Path, default=Path("build/peers"), metavar="DIR", help=f"of NNCF and Optimum, made there; {default}")
    add("--num-texts", type=int, default=256, metavar="N", help=f"of trtbert, to calibrate all on; {default}")
    add("--num-eval-texts", type=int, default=256, metavar="N", help=f"others, for the cosines; {default}")
    add("--labelled", type=Path, nargs=2, metavar=("TRAIN", "TEST"), help="texts with labels, for the nearest centroids")
    add("--num-mixed", type=int, default=64, metavar="N", help=f"texts of mixed lengths, of trtbert; {default}")
    add("--batch-size", type=int, nargs="+", default=[1, 8, 32], metavar="N", help="default: 1 8 32")
    add("--tokens", type=int, nargs="+", default=[32, 128, 384], metavar="N", help="of every text; default: 32 128 384")
    add("--rounds", type=int, default=6, metavar="N", help=default)
    add("--seconds", type=float, default=40, metavar="N", help=f"a shape ends after this, or two rounds; {default}")
    return parser.parse_args()


def time_shapes(console: Console, contenders: Sequence[Contender], arguments: argparse.Namespace) -> dict[str, Mapping[str, Timing]]:
    """A table for each batch size; gives the times by `batch x tokens`."""
    batches, lengths = arguments.batch_size, arguments.tokens
    progress("Timing shapes")
    shapes = {(batch, tokens): runs_of(batch * tokens) for batch in batches for tokens in lengths}
    timings = race(contenders, shapes, max_rounds=arguments.rounds, seconds=arguments.seconds)
    for batch in batches:
        columns = {f"{tokens} tokens": timings[batch, tokens] for tokens in lengths}
        console.print(speed_table(f"{TITLES[arguments.model]}: batch {batch}, no padding", columns))
    return {f"{batch} x {tokens}": row for (batch, tokens), row in timings.items()}


def runs_of(num_tokens: int) -> int:
    """In a turn: few of the large shapes, for a run of BERT-base on 32 x 384 takes ten seconds on two cores."""
    return min(20, max(1, 2048 // num_tokens))


def time_texts(
    console: Console, contenders: Sequence[Contender], package: Path, arguments: argparse.Namespace
) -> dict[str, Mapping[str, Timing]]:
    """The same for texts of many lengths, in two kinds of batches."""
    progress("Timing mixed lengths")
    texts = draw(read_singles(None), arguments.num_mixed)
    as_they_come, by_length = mixed_batches(package, texts, BATCH)
    workloads = {f"batches of {BATCH} as they come": as_they_come, "batches by length": by_length}
    timings = race_batches(contenders, workloads, max_rounds=arguments.rounds, seconds=arguments.seconds)
    console.print(speed_table(f"{TITLES[arguments.model]}: mixed lengths, all texts", timings))
    lengths = [int(length) for feed in as_they_come for length in feed["attention_mask"].sum(1)]
    p10, p50, p90 = np.percentile(lengths, (10, 50, 90))
    what = f"{len(lengths)} texts of trtbert of {p10:.0f}, {p50:.0f} and {p90:.0f} tokens at p10, p50 and p90, {max(lengths)} at most"
    console.print(f"{what}. A batch is padded to its longest text; those by length are the ones that `predict` makes.")
    return timings


def speed_table(title: str, columns: Timings) -> Table:
    runs = ", ".join(f"{heading}: {row[TORCH].num_runs} runs in {len(row[TORCH].rounds)} rounds" for heading, row in columns.items())
    how = f"up to {WARM_UP} warm-up runs a turn; {THREADS} threads; one process each, interleaved"
    table = Table(title=title, caption=f"ms: p50 (p10-p90); speed: times {TORCH}, median over the rounds; {runs}; {how}")
    for heading in ("", *(cell for column in columns for cell in (f"{column}, ms", "speed"))):
        table.add_column(heading, justify="right" if heading else "left")
    for name in next(iter(columns.values())):
        cells = [cell for row in columns.values() for cell in speed_cells(row[name], row[TORCH])]
        table.add_row(name, *cells)
    return table


def speed_cells(timing: Timing, baseline: Timing) -> tuple[str, str]:
    p10, p50, p90 = (timing.percentile(percent) for percent in (10, 50, 90))
    digits = 2 if p50 < 10 else 1 if p50 < 100 else 0
    return f"{p50:.{digits}f} ({p10:.{digits}f}-{p90:.{digits}f})", f"{baseline.share_of(timing):.2f}"


def print_losses(console: Console, timings: Timings, contenders: Sequence[Contender]) -> None:
    """Where the fastest package of a precision is slower than the fastest rival of it, by more than the noise."""
    losses = [loss for is_int8 in (False, True) for loss in find_losses(timings, [c for c in contenders if c.is_int8 == is_int8])]
    noise = f"by more than {NOISE - 1:.0%}, within FP32 or INT8"
    console.print(f"trtbert's fastest package is slower than the fastest of the others, {noise}: {'; '.join(losses) or 'nowhere'}.")


def find_losses(timings: Timings, contenders: Sequence[Contender]) -> Iterator[str]:
    own = [contender.name for contender in contenders if contender.kind == "package"]
    others = [contender.name for contender in contenders if contender.kind != "package"]
    for heading, row in timings.items() if own and others else ():
        ours, theirs = (min(names, key=lambda name: row[name].share_of(row[TORCH])) for names in (own, others))
        share = row[ours].share_of(row[theirs])
        if share > NOISE:
            yield f"{heading}: {ours} takes {share:.2f} times as long as {theirs}"


if __name__ == "__main__":
    sys.exit(main())
