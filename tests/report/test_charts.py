"""Numbers -> places, and what is compared: no browser needed."""

import itertools
from pathlib import Path
from typing import Any

import jinja2
import pytest

from trtbert.benchmark.names import names_of
from trtbert.report import charts
from trtbert.report.compare import compare
from trtbert.report.page import megabytes, milliseconds, render


def test_the_bars_of_a_histogram() -> None:
    chart = charts.histogram({"counts": [99, 0, 9, 0], "bin_width": 0.5, "threshold": 1.0, "maximum": 1.4})
    (first, second), height = chart.bars, chart.height
    assert (first[0], second[0]) == (0, chart.width / 2) and first[3] == height
    assert second[3] == pytest.approx(height / 2)  # log 10 of log 100
    assert chart.threshold == chart.width / 2


def test_a_histogram_of_nothing() -> None:
    assert charts.histogram({"counts": [], "bin_width": 0.5, "threshold": 0.0, "maximum": 0.0}).bars == []


def test_bars_by_the_logarithm() -> None:
    assert charts.log_shares([1e-4, None, 1e-2, 0.0, 1e-3]) == [0.03, None, 1.0, 0.03, pytest.approx(0.515)]
    assert charts.log_shares([None]) == [None]


@pytest.mark.parametrize("ys", [(90.0, 91.5, 100.0), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0), (0.999991, 0.999992, 1.0)])
def test_a_plot_holds_its_points(ys: tuple[float, ...]) -> None:
    points = [{"name": str(x), "x": x, "y": y, "is_on_front": True} for x, y in zip((1.0, 1.01, 7.3), ys, strict=True)]
    plot = charts.plot(points)
    assert all(plot.left <= point.x <= plot.right and plot.top <= point.y <= plot.bottom for point in plot.points)
    places = [place for place, _ in plot.x_ticks]
    assert places == sorted(places) and 2 <= len(places) <= 7
    for a, b in itertools.combinations(plot.points, 2):
        assert abs(a.label_y - b.label_y) >= 14


@pytest.mark.parametrize("num", [5, 40])
def test_names_of_points_that_lie_close(num: int) -> None:
    near = [{"name": f"p{x}", "x": 5.0 + x / 100, "y": 0.999 + x / 1e6, "is_on_front": True} for x in range(num)]
    plot = charts.plot([{"name": "floats", "x": 9.0, "y": 1.0, "is_on_front": True}, *near])
    ys = [point.label_y for point in plot.points]
    assert len(ys) == num + 1 and plot.top <= ys[0] and ys[-1] <= plot.bottom < plot.height
    assert all(below - above >= 15 - 1e-9 for above, below in itertools.pairwise(ys))
    assert [point.name for point in plot.points] == ["floats", *(f"p{x}" for x in reversed(range(num)))]  # from the top, as the points


def test_a_long_name_keeps_its_end() -> None:
    (point,) = charts.plot([{"name": "a" * 40 + "-int8", "x": 1.0, "y": 1.0, "is_on_front": True}]).points
    assert len(point.name) == 22 and point.name.startswith("…a") and point.name.endswith("-int8")


def package(
    name: str, *, source: str = "s", precision: str = "int8", score: float | None = None, cosine: float = 0.9, examples: str | None = "e"
) -> dict[str, Any]:
    scored = {"metric": "accuracy", "num_examples": 10, "float_score": 90.0, "examples_sha256": examples, "int8_score": score}
    accuracy = None if score is None else scored
    facts = {"target": "cpu", "runtime": "onnxruntime", "bytes": 1, "source": {"sha256": source}}
    return facts | {"name": name, "precision": precision, "accuracy": accuracy, "stages": [{"figures": {"mean_cosine": cosine}}]}


def timed(**milliseconds: float) -> dict[str, Any]:
    return {"shapes": [{"batch": 1, "length": 32, "results": [{"name": name, "p50": time} for name, time in milliseconds.items()]}]}


def test_a_float_package_has_the_float_score() -> None:
    found = compare([package("a", precision="fp32"), package("b", score=89.0), package("c", score=88.0)], timed(a=3, b=1, c=2))
    assert [row["quality"] for row in found["rows"]] == [90.0, 89.0, 88.0]
    assert {point["name"]: point["is_on_front"] for point in found["pareto"]} == {"a": True, "b": True, "c": False}


def test_without_a_score_of_all_the_cosines_are_compared() -> None:
    found = compare([package("a", cosine=0.8), package("b", score=89.0)], timed(a=3, b=1))
    assert "cosine" in found["quality"] and [row["quality"] for row in found["rows"]] == [0.8, 0.9]


@pytest.mark.parametrize("others", ["f", None])
def test_scores_on_other_examples_are_not_compared(others: str | None) -> None:
    found = compare([package("a", score=89.0), package("b", score=89.0, examples=others)], timed(a=3, b=1))
    assert "cosine" in found["quality"] and [row["quality"] for row in found["rows"]] == [0.9, 0.9]


def test_what_is_not_plotted() -> None:
    assert "different models" in compare([package("a"), package("b", source="t")], timed(a=3, b=1))["no_pareto"]
    assert "not measured" in compare([package("a"), package("b")], None)["no_pareto"]


def test_names_tell_packages_apart() -> None:
    assert names_of([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert names_of([Path("/x/a"), Path("/y/a"), Path("/y/b")]) == ["x/a", "y/a", "b"]
    assert names_of([Path("/x/torch"), Path("/x/openvino 2"), Path("/x/torches")]) == ["x/torch", "x/openvino 2", "torches"]


def test_numbers_for_people() -> None:
    assert [milliseconds(value) for value in (None, 0.123, 9.999, 12.34, 123.4)] == ["–", "0.12", "10.00", "12.3", "123"]
    assert [megabytes(value) for value in (999, 123456, 98_765_432)] == ["1.0 kB", "0.1 MB", "98.8 MB"]


def test_a_page_needs_every_fact() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render({"packages": []})
