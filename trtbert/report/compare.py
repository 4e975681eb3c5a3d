"""The facts of several packages -> a row for each, and the points of a plot of speed and quality where both are known."""

from collections.abc import Mapping, Sequence
from typing import Any


def compare(packages: Sequence[Mapping[str, Any]], measurement: Mapping[str, Any] | None) -> dict[str, Any]:
    """`pareto` is None where a package has no latency or no quality that the others have too; `no_pareto` then says why."""
    quality, scores, why = _qualities(packages)
    times = _times(measurement)
    rows = [
        {
            "name": package["name"],
            "target": package["target"],
            "runtime": package["runtime"],
            "precision": package["precision"],
            "bytes": package["bytes"],
            "milliseconds": times.get(package["name"]),
            "quality": score,
        }
        for package, score in zip(packages, scores, strict=True)
    ]
    if measurement is None:
        why = why or "the latency was not measured"
    elif len(times) < len(rows):
        why = why or "not every package could be timed here"
    shape = None if measurement is None else measurement["shapes"][0]
    return {
        "quality": quality,
        "shape": shape and [shape["batch"], shape["length"]],
        "rows": rows,
        "no_pareto": why,
        "pareto": None if why else _pareto(rows),
    }


def _qualities(packages: Sequence[Mapping[str, Any]]) -> tuple[str | None, list[float | None], str | None]:
    """What is compared, of each package, and why nothing is.

    The score of an accuracy budget, where all that come from one source model were scored by one metric on the same examples; a float
    package has the score of the float model. Else how near the answers are to the source's on the verification texts.
    """
    if len({package["source"]["sha256"] for package in packages}) > 1:
        return None, [None] * len(packages), "the packages come from different models, which nothing here scores alike"
    budgets = [package["accuracy"] for package in packages if package["accuracy"] is not None]
    kinds = {(budget["metric"], budget["num_examples"], budget["float_score"], budget["examples_sha256"]) for budget in budgets}
    is_scored = all(budget["examples_sha256"] for budget in budgets) and all(
        package["accuracy"] is not None or package["precision"] == "fp32" for package in packages
    )
    if len(kinds) == 1 and is_scored:
        ((metric, num, float_score, _),) = kinds
        scores = [package["accuracy"]["int8_score"] if package["accuracy"] else float_score for package in packages]
        return f"{metric} on {num} examples, percent", scores, None
    cosines = [package["stages"][-1]["figures"] for package in packages]
    return "mean cosine to the source model on the verification texts", [row and row["mean_cosine"] for row in cosines], None


def _times(measurement: Mapping[str, Any] | None) -> dict[str, float]:
    """The median of each package at the first shape."""
    if measurement is None:
        return {}
    return {result["name"]: result["p50"] for result in measurement["shapes"][0]["results"]}


def _pareto(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """On the front is what no other package beats in one thing without losing in the other."""

    def is_beaten(row: Mapping[str, Any]) -> bool:
        return any(
            other["milliseconds"] <= row["milliseconds"]
            and other["quality"] >= row["quality"]
            and (other["milliseconds"], other["quality"]) != (row["milliseconds"], row["quality"])
            for other in rows
        )

    return [{"name": row["name"], "x": row["milliseconds"], "y": row["quality"], "is_on_front": not is_beaten(row)} for row in rows]
