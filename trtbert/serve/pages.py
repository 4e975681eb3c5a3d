"""What is read in a browser or by a monitor: the page to try a model, the API's description, and the metrics."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Any

from starlette.responses import HTMLResponse, Response

from trtbert.serve.call import Call
from trtbert.serve.reply import json_reply
from trtbert.serve.service import Service


async def metrics(service: Service, call: Call) -> Response:
    """Counters of all workers, for Prometheus."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def openapi(service: Service, call: Call) -> Response:
    """This description."""
    return json_reply(_description(service))


async def docs(service: Service, call: Call) -> Response:
    """This description as a page."""
    from trtbert.serve.openapi import page

    return _page(page(_description(service)))


async def index(service: Service, call: Call) -> Response:
    """A page to try the models."""
    return _index()


def _description(service: Service) -> dict[str, Any]:
    from trtbert.serve.endpoints import ENDPOINTS  # Which names the functions of this module.
    from trtbert.serve.openapi import describe

    return describe(ENDPOINTS, list(service.models), has_keys=service.keys.are_needed)


@cache
def _index() -> Response:
    return _page(files("trtbert.serve").joinpath("page.html").read_text(encoding="utf-8"))


def _page(text: str) -> Response:
    """Only the page's own scripts and styles run, and it loads nothing from elsewhere."""
    hashes = {
        kind: " ".join(f"'sha256-{_sha256(content)}'" for content in re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)) or "'none'"
        for kind in ("script", "style")
    }
    policy = f"default-src 'none'; connect-src 'self'; img-src data:; script-src {hashes['script']}; style-src {hashes['style']}"
    return HTMLResponse(text, headers={"Content-Security-Policy": f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"})


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
