"""Links that lead out of docs/ -> files that come with the site: the same link works on GitHub and here."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

FOLDER = "repository/"
"""Of the site, where the files outside docs/ lie."""
_LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the nav and the pages name outside docs/, and what those pages name in turn."""
    root = Path(config.config_file_path).parent
    waiting = [root / uri.removeprefix(FOLDER) for uri in _leaves(config.nav) if uri.startswith(FOLDER)]
    waiting += [path for file in files.documentation_pages() for path in _linked(Path(file.abs_src_path or ""))]
    seen = set[Path]()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file() or path.is_relative_to(config.docs_dir) or not path.is_relative_to(root):
            continue
        seen.add(path)
        uri = _uri(path, config)
        files.append(File.generated(config, uri, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV))
        waiting += _linked(path) if path.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point each link to where its file lies in the site."""
    source = Path(page.file.abs_src_path or "")

    def moved(link: re.Match[str]) -> str:
        uri = _uri(_resolve(source, link[1]), config)
        if files.get_file_from_path(uri) is None:
            return link[0]
        return f"]({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri))}{link[2] or ''})"

    return _LINK.sub(moved, markdown)


def _leaves(nav: object) -> list[str]:
    """The pages of a nav, in its order."""
    if isinstance(nav, dict):
        nav = list(nav.values())
    return [nav] if isinstance(nav, str) else [leaf for part in nav for leaf in _leaves(part)] if isinstance(nav, list) else []


def _linked(page: Path) -> list[Path]:
    return [_resolve(page, link[1]) for link in _LINK.finditer(page.read_text(encoding="utf-8"))]


def _resolve(page: Path, link: str) -> Path:
    """The file that `link` leads to; of a folder its README.md, which is what GitHub shows."""
    path = (page.parent / link).resolve()
    return path / "README.md" if path.is_dir() else path


def _uri(path: Path, config: MkDocsConfig) -> str:
    docs = Path(config.docs_dir)
    if path.is_relative_to(docs):
        return path.relative_to(docs).as_posix()
    root = Path(config.config_file_path).parent
    return FOLDER + path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
