"""One worker process: models, engine and HTTP server in one event loop, from the shared socket to the drain."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import uvicorn
import uvloop

from trtbert.serve.app import App
from trtbert.serve.config import ServeConfig
from trtbert.serve.listener import Listener
from trtbert.serve.metrics import Metrics
from trtbert.serve.models import Model, load_models
from trtbert.serve.protocol import Protocol
from trtbert.serve.served import Served
from trtbert.serve.service import Service, threads_of
from trtbert.serve.tls import tls_context

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep an idle connection, so that theirs is the side that closes it: no request meets a closed one."""
_LINGER_SECONDS = 2.0
"""Time that idle connections have, when the server stops, to send a request that is on its way."""


def run_worker(
    packages: Mapping[str, Path], config: ServeConfig, sock: socket.socket, metrics: Metrics, served: Served, worker: int
) -> None:
    """Load the models, then answer until SIGTERM; raises what loading raises."""
    reload_asked: list[int] = []
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal sends it to every process; the supervisor turns it into SIGTERM.
    signal.signal(signal.SIGHUP, lambda number, _: reload_asked.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    tls, models = tls_context(config), load_models(packages, threads_of(config))
    served.join(worker, models)

    async def answer() -> None:
        service = Service(packages, models, config, metrics, worker)
        await _serve(service, sock, tls, partial(served.note, worker), reload_asked)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(answer())


async def _serve(
    service: Service,
    sock: socket.socket,
    tls: ssl.SSLContext | None,
    on_reload: Callable[[Mapping[str, Model]], None],
    reload_asked: list[int],
) -> None:
    settings = uvicorn.Config(
        App(service),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(service.config.drain_timeout)),
    )
    server = _Server(settings, service, sock, tls)
    loop, reloads = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    async def reload() -> None:
        await service.reload()
        on_reload(service.models)

    def start_reload() -> None:
        task = loop.create_task(reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGTERM, server.stop)
    loop.add_signal_handler(signal.SIGHUP, start_reload)
    if reload_asked:
        start_reload()
    await server.serve()


class _Server(uvicorn.Server):
    """uvicorn's server, on a socket that it shares, stopping without losing a request."""

    def __init__(self, settings: uvicorn.Config, service: Service, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        super().__init__(settings)
        self._tls = tls
        self._service = service
        self._socket = sock
        self._parent = os.getppid()

    def stop(self) -> None:
        """Begin the drain at the next tick."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The handlers are those of the event loop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        def make_protocol() -> asyncio.Protocol:
            return Protocol(self.config, self.server_state, self._service.config.client_timeout)

        self.servers = []
        self._listener = Listener(self._socket, make_protocol, self._tls)
        self.started = True
        self._service.row.set("trtbert_workers_ready", 1)
        log.info("ready", extra={"models": sorted(self._service.models)})

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or os.getppid() != self._parent  # An orphan stops as well.

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what has connected, answer what comes on open connections and close each after its answer, then close the idle ones."""
        log.info("draining", extra={"connections": len(self.server_state.connections)})
        self._service.is_draining = True
        self._service.row.set("trtbert_workers_ready", 0)
        self._listener.close()
        end = time.monotonic() + _LINGER_SECONDS
        while time.monotonic() < end and self.server_state.connections:
            await asyncio.sleep(0.05)
        await super().shutdown()
        await self._service.close()
        log.info("stopped")
