"""What a script prints -> the places for it in the pages: `<!-- measured on FIGURE: -->` to `<!-- end -->`.

A place may name rows, `<!-- measured on banking77: gqa4 banded16 -->`: it then holds the first row of each table, which is the baseline,
and those.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

PLACE = re.compile(r"(?P<head><!-- measured on (?P<figure>[\w-]+):(?P<rows>[^>]*)-->).*?<!-- end -->", re.DOTALL)
_ROW = re.compile(r"\| (?P<name>[^|]*?) \|")
_BASELINE = 2
"""Lines of a table before the rows that may be left out: headings, the line below them, and the baseline comes with them."""


def figures_of(docs: Path) -> dict[str, list[Path]]:
    """The pages with a place for each figure."""
    found = dict[str, list[Path]]()
    for page in sorted(docs.rglob("*.md")):
        for figure in dict.fromkeys(place["figure"] for place in PLACE.finditer(page.read_text(encoding="utf-8"))):
            found.setdefault(figure, []).append(page)
    return found


def fill(docs: Path, figure: str, printed: str) -> None:
    """Put Markdown into every place for a figure."""

    def filled(place: re.Match[str]) -> str:
        if place["figure"] != figure:
            return place[0]
        names = place["rows"].split()
        text = printed.rstrip().lstrip("\n")
        lines = list(_chosen(text, names)) if names else [text]
        return "\n".join([place["head"], "", *lines, "", "<!-- end -->"])

    for page in figures_of(docs).get(figure, []):
        page.write_text(PLACE.sub(filled, page.read_text(encoding="utf-8")), encoding="utf-8")


def _chosen(printed: str, names: Sequence[str]) -> Iterator[str]:
    """Of a table its baseline and the rows named; at the end, which of them are missing."""
    missing, number = set(names), -1
    for line in printed.splitlines():
        row = _ROW.match(line)
        number = number + 1 if row else -1
        if row is None or number <= _BASELINE or row["name"] in names:
            missing.discard(row["name"] if row else "")
            yield line
    if missing:
        yield from ("", f"Not measured yet: {', '.join(f'`{name}`' for name in sorted(missing))}.")
