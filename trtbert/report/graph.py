"""A manifest -> the graph before and after: nodes by type, and which fusion fired in which layer, or why not."""

from collections import Counter
from typing import Any

from trtbert.package import Manifest


def graph_facts(manifest: Manifest) -> dict[str, Any]:
    """Tables as lists of rows; `nodes` and `layers` are None for a package of before they were recorded."""
    return {
        "nodes": _nodes(manifest.nodes) if manifest.nodes else None,
        "layers": _layers(manifest) if manifest.places else None,
        "fusions": dict(manifest.fusions),
        "unfused": [miss.model_dump() for miss in manifest.unfused],
        "lowerings": _lowerings(manifest),
        "raced": {runtime: dict(times) for runtime, times in manifest.raced.items()},
    }


def _nodes(by_stage: dict[str, dict[str, int]]) -> dict[str, Any]:
    """A row for each type with its count after each stage; fused types first, then the most frequent in the first graph."""
    first = next(iter(by_stage.values()))
    types = dict.fromkeys(name for counts in by_stage.values() for name in counts)
    ordered = sorted(types, key=lambda name: (not name.startswith("trtbert::"), -first.get(name, 0), name))
    rows = [{"type": name, "counts": [counts.get(name, 0) for counts in by_stage.values()]} for name in ordered]
    return {"stages": list(by_stage), "rows": rows, "totals": [sum(counts.values()) for counts in by_stage.values()]}


def _layers(manifest: Manifest) -> dict[str, Any]:
    """A row for each part of the model, a cell for each fused op: how many fused, and the reasons of those that did not."""
    ops = list(dict.fromkeys([*manifest.fusions, *(place.op for place in manifest.places)]))
    rows = []
    for part in dict.fromkeys(place.part for place in manifest.places):
        here = [place for place in manifest.places if place.part == part]
        cells = [
            {
                "fused": sum(place.op == op and place.reason is None for place in here),
                "reasons": [f"{place.node}: {place.reason}" for place in here if place.op == op and place.reason is not None],
            }
            for op in ops
        ]
        rows.append({"part": part, "cells": cells})
    return {"ops": ops, "rows": rows}


def _lowerings(manifest: Manifest) -> list[dict[str, Any]]:
    """What became of the fused nodes, those alike together."""
    counts = Counter((item.op, item.lowering, item.reason) for item in manifest.lowerings)
    return [{"op": op, "lowering": lowering, "reason": reason, "count": count} for (op, lowering, reason), count in counts.items()]
