"""A finished run -> its facts: what it read and wrote, how long that took, and what it cost."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from trtbert.embed.plan import Plan
from trtbert.embed.worker import Done
from trtbert.version import __version__

FORMAT_VERSION = 1


def summarize(plan: Plan, done: Mapping[str, Done], runs: Mapping[str, tuple[float, float]], price: float | None) -> dict[str, Any]:
    """`runs` are the wall seconds and worker-seconds of each; `price` is that of a worker for an hour."""
    files = [asdict(done[shard.name]) for shard in plan.shards]
    rows, tokens = (sum(file[key] for file in files) for key in ("rows", "tokens"))
    wall, worker = (sum(seconds[part] for seconds in runs.values()) for part in (0, 1))
    cost = None if price is None else worker / 3600 * price
    return {
        "format_version": FORMAT_VERSION,
        "trtbert": __version__,
        "rows": rows,
        "tokens": tokens,
        "runs": len(runs),
        "wall_seconds": round(wall, 3),
        "worker_seconds": round(worker, 3),
        "busy_seconds": round(sum(file["seconds"] for file in files), 3),
        "rows_per_second": round(rows / wall, 1) if wall else None,
        "tokens_per_second": round(tokens / wall, 1) if wall else None,
        "cost": cost,
        "cost_per_million_rows": cost / rows * 1e6 if cost is not None and rows else None,
        "package": plan.identity.package,
        "options": plan.identity.options,
        "inputs": plan.identity.inputs,
        "files": files,
    }


def summary_lines(facts: Mapping[str, Any], output: object) -> list[str]:
    """What the command prints."""
    again = f", in {facts['runs']} runs" if facts["runs"] > 1 else ""
    speed = ", ".join(f"{facts[f'{what}_per_second'] or 0:.0f} {what}/s" for what in ("rows", "tokens"))
    lines = [
        f"{facts['rows']} rows, {facts['tokens']} tokens, {len(facts['files'])} files",
        f"{facts['wall_seconds']:.1f} s{again}: {speed}; {facts['worker_seconds']:.1f} worker-seconds",
    ]
    if facts["cost"] is not None:
        million = facts["cost_per_million_rows"]
        lines.append(f"cost {facts['cost']:.4g}" + ("" if million is None else f", {million:.4g} a million rows"))
    return [*lines, f"wrote {output}"]
