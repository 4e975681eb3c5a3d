"""A value -> the JSON response that holds it."""

from typing import Any

from pydantic_core import to_json
from starlette.responses import Response


def json_reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A number that JSON does not have, such as NaN, is null."""
    return Response(to_json(value, inf_nan_mode="null"), status, headers, media_type="application/json")
