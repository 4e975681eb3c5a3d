"""An HTTP request -> its whole body, checked against a pydantic model."""

import gc
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.types import Scope

from trtbert.serve.refusal import ClientGone, Refusal

_Body = TypeVar("_Body", bound=BaseModel)


class Call:
    """One request whose body has arrived."""

    def __init__(self, request: Request, body: bytes, max_texts: int) -> None:
        self.body = body
        self._max_texts = max_texts
        self.headers = request.headers
        self.path_params: dict[str, str] = request.path_params
        self._receive = request.receive

    def parse(self, kind: type[_Body], body: bytes | None = None) -> _Body:
        """The body, or `body`, as JSON; Refusal 400 names what is wrong in it, 413 says that it holds too many texts."""
        gc.disable()  # JSON holds no cycles, and of a body of empty lists most of the time would go into looking for some.
        try:
            return kind.model_validate_json(self.body if body is None else body, context={"max_texts": self._max_texts})
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors(include_url=False, include_input=False)
            ]
            raise Refusal(400, "; ".join(problems[:5])[:1000]) from None
        finally:
            gc.enable()

    async def until_gone(self) -> None:
        """Returns when the client has closed its connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def read_call(request: Request, *, max_bytes: int, max_texts: int) -> Call:
    """Refusal 413 for a body of more than `max_bytes`, 415 for a compressed one: its size is known only when it is too late."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "A compressed body is not taken; send it as it is.")
    too_large = Refusal(413, f"The body must have at most {max_bytes} bytes.")
    if _content_length(request.scope) > max_bytes:
        raise too_large
    parts: list[bytes] = []
    num_bytes, is_whole = 0, False
    while not is_whole:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        num_bytes += len(parts[-1])
        if num_bytes > max_bytes:
            raise too_large
        is_whole = not message.get("more_body", False)
    return Call(request, b"".join(parts), max_texts)


def _content_length(scope: Scope) -> int:
    """0 for a chunked body; the server has refused what is no number."""
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)
