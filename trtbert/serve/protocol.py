"""uvicorn's HTTP protocol with bounds on what a client may do to a connection: time to send, time to receive, bytes of headers."""

import asyncio

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_MAX_HEADER_BYTES = 32768


class Protocol(HttpToolsProtocol):
    """One timer runs from the first byte of a request to its last, one while the client takes in no answer; then the connection is gone.

    A request to upgrade to another protocol, HTTP/2 say, is answered as if it did not ask for that (RFC 9110, 7.8).
    """

    def __init__(self, config: uvicorn.Config, server_state: ServerState, client_timeout: float) -> None:
        super().__init__(config, server_state, app_state={})
        self._client_timeout = client_timeout
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._num_header_bytes = 0
        self._is_upgrade = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer("receive")

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in list(self._timers):
            self._stop_timer(timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._start_timer("receive")
        self._num_header_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        else:
            if self._num_header_bytes > _MAX_HEADER_BYTES and not self.transport.is_closing():
                self.send_400_response("The headers are too large.")

    def on_message_begin(self) -> None:
        self._start_timer("receive")  # Not in `data_received` only: the request before it, in the same data, has stopped the timer.
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._num_header_bytes = 0
        self._is_upgrade = self.parser.should_upgrade()
        if self.parser.get_method() == b"CONNECT":
            raise httptools.HttpParserError("This is no proxy.")
        if not self._is_upgrade:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._num_header_bytes = 0  # What follows and is no body is a trailer, or an extension of a chunk.
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_upgrade:
            self._num_header_bytes = 0  # Whatever comes next belongs to another request.
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

    def _feed(self, data: bytes) -> None:
        """The parser takes what follows the head of an upgrade for the other protocol: a new one reads it again, without that header."""
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                head = [self.parser.get_method(), b" ", self.url, f" HTTP/{self.parser.get_http_version()}\r\n".encode()]
                for name, value in self.headers:
                    head += [name, b": ", value, b"\r\n"] if name != b"upgrade" else []
                data = b"".join([*head, b"\r\n", data[upgrade.args[0] :]])
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # As uvicorn has it.

    def _start_timer(self, name: str) -> None:
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(self._client_timeout, self._give_up, name)

    def _stop_timer(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _give_up(self, name: str) -> None:
        del self._timers[name]
        if name == "receive" and self.flow.read_paused:  # The server reads no further before it has answered the request before.
            self._start_timer(name)
        else:
            self.transport.abort()
