"""The facts of a report -> one HTML page that holds all it needs, and no script."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from trtbert.benchmark.table import three_digits
from trtbert.report import charts

MISSING = "–"


def render(facts: Mapping[str, Any]) -> str:
    """Every value goes through autoescape; the policy allows the page's own style and nothing from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trtbert.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"ms": milliseconds, "mb": megabytes, "sci": scientific, "fixed": fixed, "percent": percent, "num": integer}
    environment.globals["charts"] = charts
    style = files("trtbert.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return environment.get_template("report.html").render(**facts, style=Markup(style), policy=policy)


def milliseconds(value: float | None) -> str:
    return MISSING if value is None else three_digits(value)


def megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"


def scientific(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1e}"


def fixed(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    return MISSING if share is None else f"{share:.2%}"


def integer(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}"
