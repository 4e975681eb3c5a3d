"""Time INT8 packages beside the INT8 of ONNX Runtime and of NNCF, and say how near the answers of each are to the FP32 model's."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from contenders import NOISE, THREADS, Array, Contender, Shape, Timing, answers, cosines, race
from feeds import Feeds, write_feeds
from models import TITLES, get_model
from packages import Calibration, compile_int8
from processes import script_command
from rich.console import Console
from rich.table import Table
from tables import make_console, print_machine, print_verdict, race_caption
from texts import calibration_feeds, unseen_feeds

MIN_SPEEDUP = 2.4
FP32 = "ONNX Runtime, FP32 export"
OURS_ORT, OURS_OPENVINO = "trtbert, ONNX Runtime", "trtbert, OpenVINO"
ORT_WAYS = {
    "ONNX Runtime dynamic": "dynamic",
    "ONNX Runtime dynamic, per channel": "dynamic-per-channel",
    "ONNX Runtime static": "static",
    "ONNX Runtime static, float outputs": "static-float-outputs",
}
NNCF_HINTS = {"OpenVINO + NNCF": None, "OpenVINO + NNCF, f32": "f32"}
"""By default OpenVINO computes what is not INT8 in 16 bits where the CPU has them. The faster one counts."""
NNCF_PACKAGES = "nncf==3.4.0 openvino==2026.4.1"


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Cosines of texts' embeddings, the mean over their tokens, to those of the FP32 export."""

    mean: float
    smallest: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/int8.py --model real --peers peers/bin/python")
    parser.add_argument("--model", choices=TITLES, default="base", help="BERT-base size with random weights (the default), or MiniLM")
    parser.add_argument("--peers", metavar="PYTHON", help=f"interpreter with {NNCF_PACKAGES}; without it NNCF is left out")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="to calibrate all on; default: those that come with trtbert")
    parser.add_argument("--num-texts", type=int, default=512, metavar="N", help="drawn from them; default: %(default)s")
    parser.add_argument("--eval-texts", type=Path, metavar="FILE", help="for the cosines; default: those of trtbert not calibrated on")
    parser.add_argument("--num-eval-texts", type=int, default=256, metavar="N", help="drawn from them; default: %(default)s")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8], metavar="N", help="default: 1 8")
    parser.add_argument("--tokens", type=int, default=128, metavar="N", help="length of every text; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=12, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=600, metavar="N", help="a batch size ends after this; default: %(default)s")
    parser.add_argument("--threads", type=int, default=THREADS, metavar="N", help="of each contender; default: all cores, %(default)s")
    arguments = parser.parse_args()
    console = make_console()
    print_machine(console, "openvino")
    print_peers(console, arguments.peers)
    with tempfile.TemporaryDirectory() as folder:
        return 0 if all(measure(console, Path(folder), arguments)) else 1


def print_peers(console: Console, python: str | None) -> None:
    if python is None:
        console.print(f"NNCF is left out, and its targets: --peers PYTHON, the interpreter of an environment with {NNCF_PACKAGES}")
        return
    versions = "from importlib.metadata import version; print(*(f'{name} {version(name)}' for name in ('nncf', 'openvino')), sep=', ')"
    found = subprocess.run([python, "-c", versions], check=True, capture_output=True, text=True).stdout.strip()
    console.print(f"Quantised by {found}")


def measure(console: Console, folder: Path, arguments: argparse.Namespace) -> list[bool]:
    """Make the contenders in `folder`, compare their answers, time them; gives the verdicts."""
    calibration = Calibration(texts=arguments.texts, size=arguments.num_texts)
    source = get_model(arguments.model, folder / "model")
    ours = list(compile_ours(console, source, folder, calibration))
    calibrated = calibration_feeds(ours[0].path, calibration.texts, calibration.size)
    theirs = list(make_theirs(console, source, folder, calibrated, arguments.peers))
    feeds = unseen_feeds(ours[0].path, arguments.eval_texts, arguments.num_eval_texts, calibrated)
    contenders, threads = [*theirs, *ours], arguments.threads
    console.print(f"Comparing the answers to {len(feeds)} texts of {arguments.eval_texts or 'trtbert'}, and timing")
    similarities = compare(contenders, feeds, threads)
    shapes = {(batch, arguments.tokens): 10 if batch == 1 else 3 for batch in arguments.batch_size}
    timings = race(contenders, shapes, rounds=arguments.rounds, seconds=arguments.seconds, threads=threads)
    caption = f"{race_caption(timings, threads)}; calibrated on {calibration}; cosines on {len(feeds)} others, batch 1"
    console.print(int8_table(f"{TITLES[arguments.model]}: tokens to last hidden state", caption, timings, similarities))
    return [verdict for shape, row in timings.items() for verdict in print_verdicts(console, shape, row, similarities)]


def compile_ours(console: Console, source: Path, folder: Path, calibration: Calibration) -> Iterator[Contender]:
    for name, runtime in ((OURS_ORT, "onnxruntime"), (OURS_OPENVINO, "openvino")):
        console.print(f"Compiling: {name}")
        package = compile_int8(source, folder / runtime, calibration, task="feature-extraction", runtime=runtime)
        yield Contender(name=name, kind="package", path=package, is_int8=True)


def make_theirs(console: Console, source: Path, folder: Path, calibrated: Sequence[Feeds], peers: str | None) -> Iterator[Contender]:
    """The FP32 export on both runtimes first, then its INT8 versions."""
    export, feeds = folder / "export.onnx", write_feeds(folder / "feeds.npz", calibrated)
    run_quietly(script_command("plain_export.py", source, export))
    yield Contender(name=FP32, kind="onnx", path=export)
    yield Contender(name="OpenVINO, FP32 export", kind="openvino", path=export, precision_hint="f32")
    for name, way in ORT_WAYS.items():
        console.print(f"Quantising: {name}")
        path = folder / f"{way}.onnx"
        run_quietly(script_command("peers.py", way, export, feeds, path))
        yield Contender(name=name, kind="onnx", path=path, is_int8=True)
    if peers is not None:
        console.print("Quantising: OpenVINO + NNCF")
        path = folder / "nncf.xml"
        run_quietly(script_command("peers.py", "nncf", export, feeds, path, python=peers))
        for name, hint in NNCF_HINTS.items():
            yield Contender(name=name, kind="openvino", path=path, precision_hint=hint, is_int8=True)


def run_quietly(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def compare(contenders: Sequence[Contender], feeds: Sequence[Feeds], threads: int) -> dict[str, Similarity]:
    """Of each contender to the first one."""
    embeddings = {contender.name: embed(contender, feeds, threads) for contender in contenders}
    expected_ND = embeddings[contenders[0].name]
    return {name: similarity(actual_ND, expected_ND) for name, actual_ND in embeddings.items()}


def embed(contender: Contender, feeds: Sequence[Feeds], threads: int) -> Array:
    """[N,D]: of each text the mean over its tokens."""
    return np.stack([hidden_BSD[0].mean(0) for hidden_BSD in answers(contender, feeds, threads=threads)])


def similarity(actual_ND: Array, expected_ND: Array) -> Similarity:
    cosines_N = cosines(actual_ND, expected_ND)
    return Similarity(mean=float(cosines_N.mean()), smallest=float(cosines_N.min()))


def int8_table(title: str, caption: str, timings: Mapping[Shape, Mapping[str, Timing]], similarities: Mapping[str, Similarity]) -> Table:
    table = Table(title=title, caption=caption)
    for heading in ("batch x tokens", "", "p50 ms", "p10-p90", "x FP32 export", "cosine", "least"):
        table.add_column(heading, justify="left" if heading in ("batch x tokens", "") else "right", no_wrap=True)
    for (batch, length), row in timings.items():
        for name, timing in row.items():
            p10, p50, p90 = (timing.percentile(percent) for percent in (10, 50, 90))
            speedup, similar = f"{row[FP32].share_of(timing):.2f}", similarities[name]
            cosine = (f"{similar.mean:.5f}", f"{similar.smallest:.4f}")
            table.add_row(f"{batch} x {length}", name, f"{p50:.1f}", f"{p10:.1f}-{p90:.1f}", speedup, *cosine)
        table.add_section()
    return table


def print_verdicts(console: Console, shape: Shape, row: Mapping[str, Timing], similarities: Mapping[str, Similarity]) -> Iterator[bool]:
    """At one shape; what is as fast within the noise counts as fast for OpenVINO, not for ONNX Runtime, which is to be beaten."""
    console.print(f"batch {shape[0]}, {shape[1]} tokens")
    yield print_verdict(console, f"{OURS_ORT}: speedup", row[FP32].share_of(row[OURS_ORT]), MIN_SPEEDUP, "x FP32 export", is_floor=True)
    for name in ORT_WAYS:
        share = row[OURS_ORT].share_of(row[name])
        yield print_verdict(console, f"{OURS_ORT}, beside {name}", share, 1, "of its time", digits=3)
    rivals = [name for name in NNCF_HINTS if name in row]
    if rivals:
        rival = min(rivals, key=lambda name: row[name].share_of(row[FP32]))
        share, cosine = row[OURS_OPENVINO].share_of(row[rival]), similarities[rival].mean
        yield print_verdict(console, f"{OURS_OPENVINO}, beside {rival}", share, NOISE, "of its time", digits=3)
        yield print_verdict(console, f"{OURS_OPENVINO}: mean cosine", similarities[OURS_OPENVINO].mean, cosine, "", is_floor=True, digits=5)


if __name__ == "__main__":
    sys.exit(main())
