"""uvicorn's HTTP protocol with bounds on what a client may do to a connection: time to send, time to receive, bytes of headers."""

import asyncio

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_MAX_HEADER_BYTES = 32768


class Protocol(HttpToolsProtocol):
    """One timer runs from the first byte of a request to its last, one while the client takes in no answer; then the connection is gone."""

    def __init__(self, config: uvicorn.Config, server_state: ServerState, client_timeout: float) -> None:
        super().__init__(config, server_state, app_state={})
        self._client_timeout = client_timeout
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._num_header_bytes = 0
        self._is_in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer("receive")

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in list(self._timers):
            self._stop_timer(timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._start_timer("receive")
        self._num_header_bytes += len(data) if self._is_in_headers else 0
        super().data_received(data)
        if self._num_header_bytes > _MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")

    def on_headers_complete(self) -> None:
        self._is_in_headers = False
        self._num_header_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_headers = True  # Whatever comes next belongs to another request.
        self._stop_timer("receive")
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_timer("send")

    def resume_writing(self) -> None:
        self._stop_timer("send")
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        self.transport.abort()  # `close` would wait for a client that reads nothing.

    def _start_timer(self, name: str) -> None:
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(self._client_timeout, self.transport.abort)

    def _stop_timer(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()
