"""Texts -> requests to a server of embeddings on this machine, from many connections or at a rate; and what came back of each."""

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from contenders import Array

TIMEOUT = 60.0


@dataclass(frozen=True)
class Reply:
    status: int
    """0: the connection was closed, or nothing came in time."""
    seconds: float
    vector: Array | None


class Connection:
    """One connection that is kept open; a request waits for the answer of the one before."""

    def __init__(self, port: int, model: str) -> None:
        self._port, self._model = port, model
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def embed(self, text: str) -> Reply:
        started = time.perf_counter()
        try:
            status, body = await asyncio.wait_for(self._ask(text), TIMEOUT)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            self._streams = None
            return Reply(0, time.perf_counter() - started, None)
        vector = np.frombuffer(base64.b64decode(json.loads(body)["data"][0]["embedding"]), "<f4") if status == 200 else None
        return Reply(status, time.perf_counter() - started, vector)

    async def _ask(self, text: str) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        body = json.dumps({"model": self._model, "input": text, "encoding_format": "base64"}).encode()
        writer.write(b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        answer = await reader.readexactly(length)
        if b"connection: close" in head:
            writer.close()
            self._streams = None
        return int(head.split(b" ", 2)[1]), answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


async def closed_loop(port: int, model: str, texts: Sequence[str], clients: int) -> tuple[list[Reply], float]:
    """Each client asks as soon as it was answered. The reply to each text, and the seconds of all."""
    replies: list[Reply | None] = [None] * len(texts)
    left = iter(enumerate(texts))

    async def client() -> None:
        connection = Connection(port, model)
        for index, text in left:
            replies[index] = await connection.embed(text)
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return [reply for reply in replies if reply is not None], time.perf_counter() - started


async def at_rate(port: int, model: str, texts: Sequence[str], rate: float, seconds: float) -> list[Reply]:
    """`rate` requests a second, whatever comes back; each has a connection to itself."""
    idle: list[Connection] = []

    async def one(text: str) -> Reply:
        connection = idle.pop() if idle else Connection(port, model)
        reply = await connection.embed(text)
        idle.append(connection)
        return reply

    started, tasks = time.perf_counter(), list[asyncio.Task[Reply]]()
    while (now := time.perf_counter() - started) < seconds:
        while len(tasks) < now * rate:
            tasks.append(asyncio.ensure_future(one(texts[len(tasks) % len(texts)])))
        await asyncio.sleep(0.005)
    replies = await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    return replies


async def until(is_good: Callable[[Reply], bool], ask: Callable[[], Awaitable[Reply]], seconds: float = 60) -> float:
    """Seconds until a reply is good; infinite where none is within `seconds`."""
    started = time.perf_counter()
    while (now := time.perf_counter() - started) < seconds:
        if is_good(await ask()):
            return now
        await asyncio.sleep(0.05)
    return float("inf")


def percentiles(replies: Sequence[Reply]) -> tuple[float, float, float]:
    """p50, p95 and p99 in milliseconds of those that were answered."""
    seconds = [reply.seconds for reply in replies if reply.status == 200]
    p50, p95, p99 = (float(value) for value in np.percentile(seconds, [50, 95, 99]) * 1000)
    return p50, p95, p99


def statuses(replies: Sequence[Reply]) -> dict[int, int]:
    return dict(sorted(Counter(reply.status for reply in replies).items()))
