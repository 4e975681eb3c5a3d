"""The parent process: one listening socket, the workers that share it, a new one for each that dies, and signals for all."""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from trtbert.errors import ConfigError, TrtbertError
from trtbert.package import open_package
from trtbert.serve.app import NO_ENDPOINT
from trtbert.serve.config import ServeConfig
from trtbert.serve.endpoints import ENDPOINTS
from trtbert.serve.keys import read_keys
from trtbert.serve.metrics import Metrics
from trtbert.serve.served import Served
from trtbert.serve.tls import tls_context
from trtbert.serve.worker import SIGNALS, run_worker

log = logging.getLogger(__name__)

_BACKLOG = 2048
_MIN_LIFE_SECONDS = 1.0
"""A worker that dies sooner is started again only after this time, one that could not start after twice as long each time."""
_MAX_WAIT_SECONDS = 60.0
"""Between two tries to start a worker."""
_GRACE_SECONDS = 10.0
"""Beyond drain_timeout, after which a worker is killed."""


@dataclass
class _Worker:
    process: BaseProcess
    started: float


@dataclass
class _Retry:
    """When a worker that died is started again, and how often in a row it could not start."""

    at: float
    num_failures: int


def serve(paths: Sequence[Path], config: ServeConfig) -> int:
    """Serve until SIGTERM or SIGINT; the exit code.

    Raises ConfigError, or what opening the packages raises, before any worker starts.
    """
    packages = name_packages(paths)
    for path in packages.values():
        open_package(path, check_hashes=False).engine_path  # noqa: B018  # A build kit has none, and says so. Workers check the hashes.
    tls_context(config)
    if not read_keys(config).are_needed and config.host not in ("127.0.0.1", "::1", "localhost"):
        log.warning("everybody who reaches this address may ask: give --api-key-file", extra={"host": config.host})
    return Supervisor(packages, config).run()


def name_packages(paths: Sequence[Path]) -> dict[str, Path]:
    """A package is served under the name of its folder, or of the link to it; ConfigError where two have one name."""
    packages: dict[str, Path] = {}
    for path in paths:
        name = path.resolve().name if path.name in ("", "..") else path.name
        if name in packages:
            raise ConfigError(f"{packages[name]} and {path} would both be served as {name!r}; rename one of the folders.")
        packages[name] = path
    return packages


class Supervisor:
    """Has one thread and loads no model: a worker is a fork of it."""

    def __init__(self, packages: Mapping[str, Path], config: ServeConfig) -> None:
        self._packages = packages
        self._config = config
        names = [NO_ENDPOINT, *dict.fromkeys(endpoint.name for endpoint in ENDPOINTS)]
        self._metrics = Metrics(names, list(packages), config.workers)
        self._served = Served(config.workers)
        self._workers: dict[int, _Worker] = {}
        self._retries: dict[int, _Retry] = {}
        self._was_ready = False
        self._is_stopping = False

    def run(self) -> int:
        """The exit code: 0, or that of a worker that could not start."""
        self._socket = _listen(self._config)
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        signal.signal(signal.SIGHUP, lambda *_: self._reload())
        host, port = self._socket.getsockname()[:2]
        scheme = "https" if self._config.tls_cert else "http"
        log.info("listening", extra={"url": f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}", "workers": self._config.workers})
        for worker in range(self._config.workers):
            self._start(worker)
        code = 0
        while self._workers or (self._retries and not self._is_stopping):
            wait([reader, *(worker.process.sentinel for worker in self._workers.values())], timeout=1.0)
            _empty(reader)
            code = self._tend() or code
        log.info("stopped")
        return code

    def _start(self, worker: int) -> None:
        process = multiprocessing.get_context("fork").Process(target=_run, args=(self, worker), name=f"worker-{worker}")
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # The worker has handlers of its own before it hears any.
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._workers[worker] = _Worker(process, time.monotonic())

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._kill_at = time.monotonic() + self._config.drain_timeout + _GRACE_SECONDS
            self._socket.close()
            self._send(signal.SIGTERM)

    def _reload(self) -> None:
        self._send(signal.SIGHUP)
        for retry in self._retries.values():  # What was wrong with the packages may be right now.
            retry.at, retry.num_failures = time.monotonic() + _MIN_LIFE_SECONDS, 0

    def _send(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            if worker.process.is_alive() and worker.process.pid:
                os.kill(worker.process.pid, number)

    def _tend(self) -> int:
        """Start again what has died, or kill what does not stop; the exit code of a worker that could not start."""
        self._was_ready |= any(self._metrics.row(worker).get("trtbert_workers_ready") for worker in self._workers)
        code = 0
        for number, worker in list(self._workers.items()):
            if worker.process.is_alive():
                if self._is_stopping:
                    os.kill(worker.process.pid or 0, signal.SIGKILL if time.monotonic() > self._kill_at else signal.SIGTERM)
                continue
            is_started = self._bury(number)
            if self._is_stopping:
                continue
            log.error("worker died", extra={"worker": number, "exit_code": worker.process.exitcode})
            if not self._was_ready:
                self._stop()
                code = worker.process.exitcode or 1
                continue
            num_failures = 0 if is_started else self._retries.get(number, _Retry(0, 0)).num_failures + 1
            seconds = min(_MAX_WAIT_SECONDS, _MIN_LIFE_SECONDS * 2**num_failures)
            self._retries[number] = _Retry(worker.started + seconds, num_failures)
        for number, retry in self._retries.items():
            if number not in self._workers and not self._is_stopping and time.monotonic() >= retry.at:
                self._start(number)
        return code

    def _bury(self, number: int) -> bool:
        """Whether the worker, which died, had ever been ready."""
        self._workers.pop(number).process.join()
        self._served.leave(number)
        row = self._metrics.row(number)
        is_started = row.get("trtbert_workers_ready") > 0
        for gauge in ("trtbert_workers_ready", "trtbert_requests_open", "trtbert_queue_tokens"):
            row.set(gauge, 0)
        return is_started

    def work(self, worker: int) -> int:
        """What a worker does, in its own process; its exit code."""
        self._metrics.row(worker).add("trtbert_worker_starts_total")
        try:
            run_worker(self._packages, self._config, self._socket, self._metrics, self._served, worker)
        except TrtbertError as error:
            log.error("cannot start", extra={"reason": str(error)})
            return error.exit_code
        except Exception:
            log.exception("worker failed")
            return 1
        return 0


def _run(supervisor: Supervisor, worker: int) -> None:
    signal.set_wakeup_fd(-1)
    sys.exit(supervisor.work(worker))


def _listen(config: ServeConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {config.host} port {config.port}: {error.strerror}. Choose another with --host and --port."
        ) from error


def _empty(reader: int) -> None:
    try:
        os.read(reader, 4096)
    except BlockingIOError:
        return
