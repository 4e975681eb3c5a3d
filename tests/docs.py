"""A page of the documentation -> its code blocks: what a reader would run, what it ends with, and what it prints."""

import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
_OTHERS = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "plugins/README.md")
PAGES = [*(ROOT / name for name in _OTHERS), *sorted(DOCS.rglob("*.md"))]

_BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- not run: (?P<reason>\w+) -->\n\n(?P=indent))?```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")
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


def spans(page: Path) -> list[str]:
    """The code in the text: what stands between backticks outside of blocks."""
    found = re.findall(r"(`+)(.+?)\1", _text(page), re.DOTALL)
    return [" ".join(code.split()) for _, code in found]


def anchors(page: Path) -> set[str]:
    """The ids of the headings and of what `::: NAME` documents, as mkdocs and mkdocstrings make them."""
    seen, found = Counter[str](), set(re.findall(r"^::: (\S+)$", _text(page), re.MULTILINE))
    for heading in _HEADING.findall(_text(page)):
        ascii_only = unicodedata.normalize("NFKD", _LINK.sub(r"\1", heading)).encode("ascii", "ignore").decode()
        name = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())
        found.add(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def _text(page: Path) -> str:
    return _BLOCK.sub("", page.read_text())
