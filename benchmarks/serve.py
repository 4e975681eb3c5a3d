"""Load `trtbert serve` from another process: answers and throughput beside the offline predictor's, overload, and memory over time."""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from contenders import Array, cosines
from rich.console import Console
from rich.table import Table
from serve_load import Connection, Reply, at_rate, closed_loop, percentiles, statuses, until
from tables import TARGET_MISSED, make_console, print_machine, print_verdict
from texts import draw_or_repeat, read_singles

import trtbert
from trtbert.package import MANIFEST, open_package

MIN_COSINE = 0.999
"""Of a right answer with the offline one: a batch of another shape changes the last bits, of INT8 models more than those."""
MIN_SHARE, MIN_SPEEDUP, MAX_RECOVERY, MAX_GROWTH = 0.85, 2.0, 5.0, 0.02
WARM_UP = 200
OVERLOAD, OVERLOAD_SECONDS = 5, 10
SOAK_RATE, SAMPLE_SECONDS = 50, 5


@dataclass(frozen=True)
class Server:
    process: psutil.Process
    port: int
    model: str

    def resident(self) -> int:
        """Bytes of the parent and its workers."""
        return sum(process.memory_info().rss for process in (self.process, *self.process.children(recursive=True)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/serve.py minilm.package --texts brown.txt")
    parser.add_argument("package", type=Path, help="of sentence embeddings, for the CPU")
    parser.add_argument("--texts", type=Path, metavar="FILE", help="to embed; default: those that come with trtbert, repeated")
    parser.add_argument("--requests", type=int, default=20_000, metavar="N", help="of one text each; default: %(default)s")
    parser.add_argument(
        "--clients", type=int, default=64, metavar="N", help="that wait for an answer before they ask again; default: %(default)s"
    )
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES", help="of steady requests, to see the memory; default: none")
    arguments = parser.parse_args()
    console = make_console()
    print_machine(console)
    texts = draw_or_repeat(read_singles(arguments.texts), arguments.requests)
    before, vectors = embed_offline(arguments.package, texts)
    print_lengths(console, arguments.package, texts)
    with tempfile.TemporaryDirectory() as folder:
        plain = without_batches(arguments.package, texts, Path(folder, arguments.package.name))
        results = [
            serve_all(console, plain, texts[: len(texts) // 10], vectors, arguments.clients),
            serve_all(console, arguments.package, texts, vectors, arguments.clients, soak=arguments.soak, overload=True),
        ]
    is_passed = [result.is_passed for result in results]
    plain_rate, rate = (result.rate for result in results)
    after, _ = embed_offline(arguments.package, texts)
    offline = (before + after) / 2  # a machine's speed drifts over minutes
    console.print(f"the offline predictor, all texts in one call, one thread: {before:.0f} texts/s before, {after:.0f} after")
    is_passed.append(print_verdict(console, "throughput", rate / offline, MIN_SHARE, "of the offline predictor's", is_floor=True))
    what = "the same server's with every text padded to the longest, one at a time"
    is_passed.append(print_verdict(console, "throughput", rate / plain_rate, MIN_SPEEDUP, f"x {what}", is_floor=True))
    return 0 if all(is_passed) else TARGET_MISSED


def embed_offline(package: Path, texts: Sequence[str]) -> tuple[float, Array]:
    """Texts in a second on one thread, the better of two runs, and the embeddings."""
    predictor = trtbert.load(package, threads=1)
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        vectors = predictor.encode(list(texts))
        seconds.append(time.perf_counter() - started)
    return len(texts) / min(seconds), np.asarray(vectors)


def without_batches(package: Path, texts: Sequence[str], folder: Path) -> Path:
    """A copy whose manifest says that the engine takes one text at a time, as long as the longest of `texts`."""
    shutil.copytree(package, folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    length = max(token_counts(package, texts))
    manifest["profiles"] = [
        {"batch_size": dict.fromkeys(("min", "opt", "max"), 1), "seq_len": dict.fromkeys(("min", "opt", "max"), length)}
    ]
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def token_counts(package: Path, texts: Sequence[str]) -> list[int]:
    predictor = trtbert.load(package, threads=1)
    return [len(encoding) for encoding in predictor.encoder.tokenize(list(texts))]


def print_lengths(console: Console, package: Path, texts: Sequence[str]) -> None:
    lengths = token_counts(package, texts)
    shown = ", ".join(f"p{percent} {np.percentile(lengths, percent):.0f}" for percent in (10, 50, 90))
    console.print(f"{open_package(package).manifest.precision} package, {len(texts)} texts of {shown} tokens, longest {max(lengths)}")


@dataclass(frozen=True)
class Result:
    rate: float
    is_passed: bool


def serve_all(
    console: Console, package: Path, texts: Sequence[str], vectors: Array, clients: int, *, soak: float = 0, overload: bool = False
) -> Result:
    """Every text once from `clients` connections; then what else is asked for."""
    with serving(package) as server:
        asyncio.run(closed_loop(server.port, server.model, texts[:WARM_UP], clients))
        replies, seconds = asyncio.run(closed_loop(server.port, server.model, texts, clients))
        rate = len(texts) / seconds
        print_replies(console, f"{len(texts)} requests, {clients} clients", replies, rate)
        is_passed = [check_answers(console, replies, vectors)]
        if overload:
            is_passed.append(overloaded(console, server, texts, rate, np.median([reply.seconds for reply in replies])))
        if soak:
            is_passed.append(soaked(console, server, texts, soak))
        return Result(rate, all(is_passed))


@contextmanager
def serving(package: Path) -> Iterator[Server]:
    """One worker, one thread for the engine: the second core is the client's and the event loop's."""
    command = [sys.executable, "-m", "trtbert", "serve", str(package), "--port", "0", "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        records = (json.loads(line) for line in process.stderr)
        url = next(record["url"] for record in records if record["event"] == "listening")
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        try:
            yield Server(psutil.Process(process.pid), int(url.rpartition(":")[2]), package.name)
        finally:
            process.terminate()
            process.wait(60)
            drain.wait(10)


def print_replies(console: Console, title: str, replies: Sequence[Reply], rate: float) -> None:
    table = Table(title=title)
    for heading in ("requests/s", "p50 ms", "p95 ms", "p99 ms", "statuses"):
        table.add_column(heading, justify="right")
    p50, p95, p99 = percentiles(replies)
    table.add_row(f"{rate:.0f}", f"{p50:.1f}", f"{p95:.1f}", f"{p99:.1f}", str(statuses(replies)))
    console.print(table)


def check_answers(console: Console, replies: Sequence[Reply], vectors: Array) -> bool:
    """Whether each request was answered, with the vector of its own text."""
    missing = sum(reply.vector is None for reply in replies)
    found = [(reply.vector, vector) for reply, vector in zip(replies, vectors, strict=False) if reply.vector is not None]
    served, expected = (np.stack(part) for part in zip(*found, strict=True))
    near = cosines(served, expected)
    difference = np.abs(served - expected).max()
    console.print(f"least cosine with the offline answer {near.min():.5f}, largest difference of a number {difference:.5f}")
    wrong = int((near < MIN_COSINE).sum())
    return print_verdict(console, "requests lost or answered wrongly", missing + wrong, 0, f"of {len(replies)}", digits=0)


def overloaded(console: Console, server: Server, texts: Sequence[str], rate: float, usual: float) -> bool:
    """Five times what the server can do for ten seconds, and from then on the time until one request is answered as fast as usually."""

    async def load() -> tuple[list[Reply], float]:
        asking = asyncio.ensure_future(at_rate(server.port, server.model, texts, OVERLOAD * rate, OVERLOAD_SECONDS))
        await asyncio.sleep(OVERLOAD_SECONDS)
        connection = Connection(server.port, server.model)
        recovery = await until(lambda reply: reply.status == 200 and reply.seconds <= usual, lambda: connection.embed(texts[0]))
        connection.close()
        return await asking, recovery

    replies, recovery = asyncio.run(load())
    print_replies(console, f"{OVERLOAD} x that rate for {OVERLOAD_SECONDS} s", replies, len(replies) / OVERLOAD_SECONDS)
    odd = sum(reply.status not in (200, 429, 503) for reply in replies)
    is_shed = print_verdict(console, "requests answered neither 200, 429 nor 503", odd, 0, "", digits=0)
    return print_verdict(console, "time to recover", recovery, MAX_RECOVERY, "s") and is_shed


def soaked(console: Console, server: Server, texts: Sequence[str], minutes: float) -> bool:
    """The memory of the last fifth of the time beside that of the second fifth: in the first one buffers still grow."""
    samples = []

    async def load() -> None:
        asking = asyncio.ensure_future(at_rate(server.port, server.model, texts, SOAK_RATE, minutes * 60))
        while not asking.done():
            samples.append(server.resident())
            await asyncio.wait({asking}, timeout=SAMPLE_SECONDS)

    asyncio.run(load())
    fifth = max(1, len(samples) // 5)
    early, late = np.median(samples[fifth : 2 * fifth]), np.median(samples[-fifth:])
    console.print(f"{minutes:g} minutes of {SOAK_RATE} requests/s: {early / 2**20:.0f} MiB, at the end {late / 2**20:.0f} MiB")
    return print_verdict(console, "growth", late / early - 1, MAX_GROWTH, "", digits=3)


if __name__ == "__main__":
    sys.exit(main())
