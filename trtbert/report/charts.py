"""Numbers -> the places of what a chart draws, in the units of its SVG; the template draws it, and says it in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from trtbert.benchmark.axes import ticks

BAR_WIDTH = 160.0
_HISTOGRAM = (260.0, 84.0)
_PLOT = (440.0, 270.0)
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 20.0, 14.0, 44.0
_LINE = 15.0
"""From a name to the next one."""
_LONGEST_NAME = 22
"""Characters that fit into half a plot."""


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A histogram: [x, y, width, height] of each bar that is not empty, and where the threshold is."""

    width: float
    height: float
    bars: list[tuple[float, float, float, float]]
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Point:
    x: float
    y: float
    name: str
    label_x: float
    label_y: float
    anchor: str
    """Of the name, which stands on that side of the point where there is more room."""
    is_on_front: bool


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Points, ticks [place, text] of both axes, and the line through the points on the front."""

    width: float
    height: float
    left: float
    bottom: float
    right: float
    top: float
    points: list[Point]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    front: str


def histogram(tensor: Mapping[str, Any]) -> Bars:
    """Heights grow with the logarithm of the counts: without it there is one bar at 0 to see."""
    (width, height), counts = _HISTOGRAM, tensor["counts"]
    end = len(counts) * tensor["bin_width"] or 1.0
    top, step = math.log1p(max(counts, default=0)) or 1.0, width / max(len(counts), 1)
    heights = [height * math.log1p(count) / top for count in counts]
    bars = [(i * step, height - h, step * 0.9, h) for i, h in enumerate(heights) if h]
    return Bars(width=width, height=height, bars=bars, threshold=width * min(1.0, tensor["threshold"] / end))


def log_shares(values: Sequence[float | None]) -> list[float | None]:
    """The length of a bar for each value, 0.03 to 1, by its logarithm; None where there is no value."""
    known = [math.log10(value) for value in values if value is not None and value > 0]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    span = (high - low) or 1.0
    return [None if value is None else 0.03 if value <= 0 else 0.03 + 0.97 * (math.log10(value) - low) / span for value in values]


def plot(points: Sequence[Mapping[str, Any]]) -> Plot:
    """x: milliseconds from 0; y: as far as the points need it. It is as high as all names need, one above the other."""
    width, height = _PLOT[0], max(_PLOT[1], _TOP + _BOTTOM + _LINE * len(points))
    right, bottom = width - _RIGHT, height - _BOTTOM
    x_ticks, y_ticks = ticks(0.0, max(point["x"] for point in points)), ticks(*_padded([point["y"] for point in points]))

    def place_x(value: float) -> float:
        return _LEFT + (right - _LEFT) * (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])

    def place_y(value: float) -> float:
        return bottom - (bottom - _TOP) * (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])

    placed = [
        _point(place_x(p["x"]), place_y(p["y"]), p["name"], p["is_on_front"], is_left=place_x(p["x"]) > (_LEFT + right) / 2) for p in points
    ]
    front = sorted((point for point in placed if point.is_on_front), key=lambda point: point.x)
    return Plot(
        width=width,
        height=height,
        left=_LEFT,
        bottom=bottom,
        right=right,
        top=_TOP,
        points=_apart(placed, bottom),
        x_ticks=[(place_x(tick), f"{tick:g}") for tick in x_ticks],
        y_ticks=[(place_y(tick), f"{tick:.6g}") for tick in y_ticks],
        front=" ".join(f"{point.x:.1f},{point.y:.1f}" for point in front),
    )


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - abs(low) * 0.01 - 1e-6, high + abs(high) * 0.01 + 1e-6)


def _point(x: float, y: float, name: str, is_on_front: bool, *, is_left: bool) -> Point:
    label_x, anchor = (x - 11, "end") if is_left else (x + 11, "start")
    shown = name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"
    return Point(x=x, y=y, name=shown, label_x=label_x, label_y=y, anchor=anchor, is_on_front=is_on_front)


def _apart(points: Sequence[Point], bottom: float) -> list[Point]:
    """The names moved down where they would stand on each other, and up again where the last ones would fall below the plot."""
    ordered = sorted(points, key=lambda point: point.y)
    *down, last = accumulate((point.y for point in ordered), lambda above, y: max(y, above + _LINE))
    up = accumulate([min(last, bottom), *reversed(down)], lambda below, y: min(y, below - _LINE))
    return [replace(point, label_y=y) for point, y in zip(ordered, reversed(list(up)), strict=True)]
