"""The ASGI application of a worker: limits, API key, endpoint, errors, metrics and one line of log for each request."""

import logging
import time
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trtbert.serve.call import read_call
from trtbert.serve.endpoints import ENDPOINTS, Endpoint
from trtbert.serve.metrics import STATUSES
from trtbert.serve.refusal import ClientGone, Refusal
from trtbert.serve.reply import json_reply
from trtbert.serve.service import Service

log = logging.getLogger(__name__)

NO_ENDPOINT = "none"
"""The name, in metrics and logs, of whatever is asked that is not there."""


class App:
    """Answers every request that uvicorn hands it; raises nothing."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._router = Router([self._route(endpoint) for endpoint in ENDPOINTS], redirect_slashes=False)
        self._num_open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.perf_counter(), 499
        scope["app"] = self  # Has the router raise for a path or method that is not there.

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._headers()]
            await send(message)

        self._count_open(+1)
        try:
            await self._answer(scope, receive, send_marked)
        except ClientGone:
            pass
        finally:
            self._count_open(-1)
            self._note(scope, status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._router(scope, receive, send)
        except Refusal as refusal:
            await _refuse(scope, refusal)(scope, receive, send)
        except HTTPException as error:
            await _refuse(scope, Refusal(error.status_code, HTTPStatus(error.status_code).phrase), error.headers)(scope, receive, send)
        except ClientGone:
            raise
        except Exception:
            log.exception("failed")
            await _refuse(scope, Refusal(500, "The server failed on this request."))(scope, receive, send)

    def _route(self, endpoint: Endpoint) -> Route:
        service = self._service

        async def answer(request: Request) -> Response:
            if not endpoint.is_public:  # Health is told under any load: a supervisor would stop a server that is only busy.
                if not service.keys.allow(request.headers.get("authorization", "").encode("latin-1")):
                    raise Refusal(401, "An API key is needed: Authorization: Bearer KEY.")
                if self._num_open > service.config.max_requests:
                    raise Refusal(503, "The server has too many open requests; ask again later.", retry_after=1)
            limits = service.config
            return await endpoint.answer(service, await read_call(request, max_bytes=limits.max_body_bytes, max_texts=limits.max_texts))

        answer.__name__ = endpoint.name
        return Route(endpoint.path, answer, methods=[endpoint.method])

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
        return [*headers, (b"connection", b"close")] if self._service.is_draining else headers

    def _count_open(self, change: int) -> None:
        self._num_open += change
        self._service.row.set("trtbert_requests_open", self._num_open)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        name = getattr(scope.get("endpoint"), "__name__", NO_ENDPOINT)
        row = self._service.row
        row.add("trtbert_requests_total", name, str(status) if str(status) in STATUSES else "400")
        row.observe("trtbert_request_seconds", name, seconds)
        row.set("trtbert_queue_tokens", self._service.engine.num_waiting_tokens)
        log.info("request", extra={"endpoint": name, "status": status, "milliseconds": round(seconds * 1000, 2)})


def _refuse(scope: Scope, refusal: Refusal, headers: object = None) -> ASGIApp:
    """The error in the shape of the API that was asked: OpenAI's under /v1, the Open Inference Protocol's elsewhere."""
    shown = dict(headers) if isinstance(headers, dict) else {}
    if refusal.retry_after is not None:
        shown["Retry-After"] = str(refusal.retry_after)
    if refusal.status == 401:
        shown["WWW-Authenticate"] = 'Basic realm="trtbert: any name, the API key as password", charset="UTF-8"'
    body: object = refusal.message
    if scope["path"].startswith("/v1/"):
        kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
        body = {"message": refusal.message, "type": kind, "param": None, "code": refusal.status}
    return json_reply({"error": body}, refusal.status, shown)
