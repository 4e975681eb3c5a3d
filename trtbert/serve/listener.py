"""A listening socket that several processes share -> connections of this one, and none lost when it closes."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

log = logging.getLogger(__name__)

_HANDSHAKE_SECONDS = 10.0
_PAUSE_SECONDS = 0.2
"""Between two tries when the process has no more file descriptors."""


class Listener:
    """Accepts one connection at a time, so that a burst spreads over the workers; asyncio's servers take all that there are."""

    def __init__(self, sock: socket.socket, make_protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None) -> None:
        self._socket = sock
        self._make_protocol = make_protocol
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Take what has already connected, and no more: were it left in the backlog, the kernel would reset it."""
        self._loop.remove_reader(self._socket)
        while self._accept():
            pass
        self._socket.close()

    def _accept(self) -> bool:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError):  # Another worker was faster.
            return False
        except ConnectionAbortedError:
            return True
        except OSError as error:
            log.warning("cannot accept a connection", extra={"reason": error.strerror})
            self._loop.remove_reader(self._socket)
            self._loop.call_later(_PAUSE_SECONDS, self._resume)
            return False
        connection.setblocking(False)
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    def _resume(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket, self._accept)

    async def _open(self, connection: socket.socket) -> None:
        timeout = _HANDSHAKE_SECONDS if self._tls else None
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection, ssl=self._tls, ssl_handshake_timeout=timeout)
        except OSError as error:  # TLS that a client does not speak, or a client that left.
            log.debug("connection failed", extra={"reason": type(error).__name__})
            connection.close()
