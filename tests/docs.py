"""A page of the documentation -> its code blocks: what a reader would run, what it ends with, and what it prints."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md"))]

_BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- not run: (?P<reason>\w+) -->\n\n(?P=indent))?```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_EXIT_CODE = re.compile(r"exit code (\d)")


@dataclass(frozen=True)
class Block:
    """A fenced block; `reason` is that of the comment `<!-- not run: REASON -->` before it."""

    text: str
    language: str
    reason: str | None


@dataclass(frozen=True)
class Command:
    """A line of a shell, and what it prints where the page shows that."""

    text: str
    exit_code: int
    """What its comment says: `# exit code 5`."""
    output: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    """In their order; those inside of lists are indented."""
    found = _BLOCK.finditer(page.read_text())
    return [Block(textwrap.dedent(block["text"]), block["language"], block["reason"]) for block in found]


def commands(block: Block) -> Iterator[Command]:
    """The lines of a shell block. Where one begins with "$ ", the others are what is printed; one that ends with "\\" goes on."""
    lines = block.text.replace("\\\n", " ").splitlines()
    is_session = any(line.startswith("$ ") for line in lines)
    starts = [index for index, line in enumerate(lines) if line.startswith("$ ") or (not is_session and line.strip())]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        text, _, comment = lines[start].removeprefix("$ ").partition("  #")
        code = _EXIT_CODE.search(comment)
        output = tuple(line for line in lines[start + 1 : end] if line.strip()) if is_session else ()
        yield Command(text.strip(), int(code[1]) if code else 0, output)
