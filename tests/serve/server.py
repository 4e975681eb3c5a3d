"""A `trtbert serve` in a process of its own, with its log."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3

START_SECONDS = 60


class Server:
    """Its address, what it logged, and a client with a pool of connections."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.http = urllib3.PoolManager(maxsize=64, retries=False, timeout=30)

    @property
    def url(self) -> str:
        return str(self.wait_for("listening")["url"])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def wait_for(self, event: str, number: int = 1) -> dict[str, Any]:
        """The `number`th record of an event."""

        def found() -> list[dict[str, Any]]:
            return [record for record in self.log if record["event"] == event][number - 1 :]

        with self._changed:
            is_there = self._changed.wait_for(lambda: found() or self.process.poll() is not None, START_SECONDS)
            assert is_there and found(), f"no {event}: {self.log}"
            return found()[0]

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of the answer; `body` is JSON, or bytes as they are."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        response = self.http.request("GET" if body is None else "POST", self.url + path, body=data, headers=headers)
        return response.status, json.loads(response.data)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        """After the process ended."""
        self.http.clear()
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                with self._changed:
                    self.log.append(json.loads(line))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@contextmanager
def serving(*packages: Path, env: dict[str, str] | None = None, **options: Any) -> Iterator[Server]:
    """A server on a free port that is stopped, and has stopped well, at the end."""
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "trtbert", "serve", *map(str, packages), "--port", "0", "--threads", "1", *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    server = Server(process)
    try:
        server.wait_for("ready", options.get("workers", 1))
        yield server
        server.http.clear()
        server.send(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        server.close()
