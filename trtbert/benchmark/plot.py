"""The facts of a benchmark -> an SVG that needs nothing else: latency by length, and throughput by batch size."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from trtbert.benchmark.axes import ticks
from trtbert.benchmark.table import threads_of

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555", "#000000")
"""Of Okabe and Ito, which the colour-blind tell apart."""
_DASHES = ("", "7 4", "2 3")
"""Of the lines, for more contenders than there are colours."""
_PANEL, _LEFT, _TOP, _BOTTOM, _RIGHT = 400, 58, 40, 250, 388
_LINE = 18
Series = dict[str, list[tuple[float, float]]]
"""Points by contender."""


def draw(facts: Mapping[str, Any]) -> str:
    """Of the first number of threads: at the smallest batch, and at the longest length."""
    names = [contender["name"] for contender in facts["contenders"]]
    shapes = [shape for shape in facts["shapes"] if shape["threads"] == facts["shapes"][0]["threads"]]
    batch, length = min(shape["batch"] for shape in shapes), max(shape["length"] for shape in shapes)
    latency = _series([shape for shape in shapes if shape["batch"] == batch], "length", "p50")
    throughput = _series([shape for shape in shapes if shape["length"] == length], "batch", "texts_per_second")
    machine = facts["machine"]
    notes = [f"{machine['cpu']}, {threads_of(shapes[0])}, {facts['measured_at']}"]
    notes += ["The machine was noisy: do not quote these times."] if facts["noise"]["warnings"] else []
    height = _BOTTOM + 62 + _LINE * (len(names) + len(notes))
    strokes = {name: _stroke(index) for index, name in enumerate(names)}
    legend = [
        f'<path d="M{_LEFT - 8} {_BOTTOM + 51 + _LINE * row}h24" {strokes[name]}/>' + _text(_LEFT + 22, _BOTTOM + 55 + _LINE * row, name)
        for row, name in enumerate(names)
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * _PANEL}" height="{height}" viewBox="0 0 {2 * _PANEL} {height}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="12" aria-label="Latency and throughput of the contenders">',
        f'<rect width="{2 * _PANEL}" height="{height}" fill="#ffffff"/>',
        *_panel(latency, strokes, 0, f"ms of a batch of {batch}, median", "tokens"),
        *_panel(throughput, strokes, _PANEL, f"texts/s at {length} tokens", "batch size"),
        *legend,
        *(_text(_LEFT, _BOTTOM + 60 + _LINE * (len(names) + row), note) for row, note in enumerate(notes)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _series(shapes: Sequence[Mapping[str, Any]], x: str, y: str) -> Series:
    found: Series = {}
    for shape in sorted(shapes, key=lambda shape: int(shape[x])):
        for result in shape["results"]:
            found.setdefault(result["name"], []).append((shape[x], result[y]))
    return found


def _stroke(index: int) -> str:
    """The attributes of a contender's line and points."""
    dash = _DASHES[index // len(_COLOURS) % len(_DASHES)]
    colour = _COLOURS[index % len(_COLOURS)]
    return f'fill="none" stroke="{colour}" stroke-width="2"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _panel(series: Series, strokes: Mapping[str, str], left: int, title: str, x_title: str) -> list[str]:
    """Both axes from 0."""
    points = [point for row in series.values() for point in row]
    x_end, y_ticks = max(x for x, _ in points) * 1.05, ticks(0.0, max(y for _, y in points))

    def place(x: float, y: float) -> tuple[float, float]:
        return round(left + _LEFT + (_RIGHT - _LEFT) * x / x_end, 1), round(_BOTTOM - (_BOTTOM - _TOP) * y / y_ticks[-1], 1)

    parts = [_text(left + _LEFT, _TOP - 16, title, 'font-weight="600"')]
    for tick in y_ticks:
        _, y = place(0, tick)
        parts.append(f'<line x1="{left + _LEFT}" x2="{left + _RIGHT}" y1="{y}" y2="{y}" stroke="#d0d7de"/>')
        parts.append(_text(left + _LEFT - 8, y + 4, f"{tick:g}", 'text-anchor="end"'))
    for value in sorted({x for x, _ in points}):
        parts.append(_text(place(value, 0)[0], _BOTTOM + 18, f"{value:g}", 'text-anchor="middle"'))
    parts.append(_text(left + _RIGHT, _BOTTOM + 34, x_title, 'text-anchor="end"'))
    for name, row in series.items():
        places = [place(*point) for point in row]
        line = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline {strokes[name]} points="{line}"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3.5" {strokes[name]}/>' for x, y in places]
    return parts


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x}" y="{y}" fill="#1b1f24" {style}>{escape(text)}</text>'
