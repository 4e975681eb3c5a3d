"""The facts of a benchmark -> lines of at most 80 columns, in ASCII, for a terminal or a pipe."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

_WIDTH = 80
_NAME = 22


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    machine, noise = facts["machine"], facts["noise"]
    libraries = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    yield from _wrapped(f"{facts['made_by']}, {facts['measured_at']}")
    yield from _wrapped(f"{machine['cpu']}, {machine['num_cores']} cores, {machine['system']}")
    yield from _wrapped(libraries)
    yield from _warnings(noise)
    yield ""
    has_several = len({contender["source"] for contender in facts["contenders"]}) > 1
    for contender in facts["contenders"]:
        yield from _wrapped(f"{contender['name']}: {contender['what']}{_source(contender, has_several=has_several)}")
    for entry in facts["left_out"]:
        yield from _wrapped(f"left out: {', '.join(entry['names'])}. {entry['why']}")
    for shape in facts["shapes"]:
        yield from _shape(shape, noise["limits"]["spread"])
    for arrived in facts["arrivals"]:
        yield from _arrivals(arrived)
    yield ""
    yield from _wrapped(f"speed: times that of the baseline, median over rounds. !: rounds over {noise['limits']['spread']:.0%} apart.")
    if noise["warnings"]:
        yield "The machine was noisy: see the warnings above, and do not quote these times."


def _source(contender: Mapping[str, Any], *, has_several: bool) -> str:
    """Of a package, which model it was compiled from; where there are several models, also which of them a library runs."""
    if contender["library"]:
        return f"; runs {contender['source']}" if has_several else ""
    baseline = f"; its speed is by {contender['baseline']}" if has_several and contender["baseline"] else ""
    return f", compiled from {contender['source']}{baseline}"


def _shape(shape: Mapping[str, Any], limit: float) -> Iterator[str]:
    yield ""
    yield f"batch {shape['batch']} x {shape['length']} tokens, {threads_of(shape)}"
    yield f"  {'ms of a batch':<{_NAME}}{'p50':>8}{'p95':>8}{'p99':>8}{'texts/s':>10}  speed (p10-p90)"
    for row in shape["results"]:
        mark = "!" if row["spread"] > limit else " "
        times = f"{_ms(row['p50']):>7}{mark}{_ms(row['p95']):>8}{_ms(row['p99']):>8}"
        yield f"  {_short(row['name']):<{_NAME}}{times}{row['texts_per_second']:>10.1f}  {_speed(row)}".rstrip()


def _arrivals(arrived: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"single texts of {arrived['length']} tokens, arriving at random, {threads_of(arrived)}"
    yield f"  {'ms until the answer':<{_NAME}}{'p50':>8}{'p95':>8}{'p99':>8}{'offered/s':>11}{'answered/s':>12}"
    for row in arrived["results"]:
        times = "".join(f"{_ms(row[name]):>8}" for name in ("p50", "p95", "p99"))
        held = "" if row["is_held"] else " not held"
        yield f"  {_short(row['name']):<{_NAME}}{times}{arrived['rate']:>11.6g}{row['answers_per_second']:>12.1f}{held}"


def threads_of(row: Mapping[str, Any]) -> str:
    return f"{row['threads']} thread{'' if row['threads'] == 1 else 's'}"


def three_digits(value: float) -> str:
    """Those that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else three_digits(value)


def _speed(row: Mapping[str, Any]) -> str:
    if row["speedup"] is None:
        return ""
    return f"{three_digits(row['speedup'])}x ({three_digits(row['speedup_p10'])}-{three_digits(row['speedup_p90'])})"


def _short(name: str) -> str:
    """The end of a name tells packages apart."""
    return name if len(name) < _NAME else f"...{name[4 - _NAME :]}"


def _warnings(noise: Mapping[str, Any]) -> Iterator[str]:
    for warning in noise["warnings"]:
        yield from _wrapped(f"WARNING  {warning}", indent="         ")


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False)
