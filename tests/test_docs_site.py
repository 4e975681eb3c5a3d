"""The site: every page is in its nav, it builds with no warning, and it needs nothing from elsewhere."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import Page

import trtbert
from tests.browser import NEEDS_CHROMIUM
from tests.docs import DOCS, ROOT

REPOSITORY = "repository/"
"""Of the site, where files outside docs/ lie: docs/hooks/outside.py."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("needs mkdocs: make docs installs it")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where the site is served, for the search wants a server."""
    handler = functools.partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_the_nav_names_every_page() -> None:
    _, nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")
    named = re.findall(r"([\w/.-]+\.md)$", nav, re.MULTILINE)
    assert len(named) == len(set(named))
    ours = {name for name in named if not name.startswith(REPOSITORY)}
    assert ours == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert [name for name in set(named) - ours if not (ROOT / name.removeprefix(REPOSITORY)).is_file()] == []


def test_the_reference_has_what_trtbert_exports() -> None:
    text = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: trtbert[\w.]*\.(\w+)$", text, re.MULTILINE))
    assert set(trtbert.__all__) - {"__version__"} <= shown


@pytest.mark.slow
def test_every_link_of_the_site_leads_to_a_file(site: Path) -> None:
    num_links = 0
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # whose links begin with a slash, for it stands in the place of any page
            continue
        for link in re.findall(r'(?:href|src)="([^"#:?]+)["#?]', page.read_text()):
            num_links += 1
            assert (page.parent / unquote(link)).exists(), f"{page.relative_to(site)} leads to {link}"
    assert num_links > 1000
    assert (site / "repository/trtbert/ops.py").read_bytes() == (ROOT / "trtbert/ops.py").read_bytes()


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="(?:https?:)?//[^"]*|<link\b[^>]*\bhref="(?:https?:)?//[^"]*')
    assert [found for page in site.rglob("*.html") for found in loaded.findall(page.read_text())] == []
    assert [found for file in site.rglob("*.css") for found in re.findall(r"url\(['\"]?(?:https?:)?//[^)]*", file.read_text())] == []


@NEEDS_CHROMIUM
@pytest.mark.slow
def test_the_site_in_a_browser(page: Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/index.html")
    assert page.locator("h1").inner_text().startswith("Start in five minutes")
    field, results = page.locator("input.md-search__input"), page.locator(".md-search-result__item a")
    for _ in range(15):  # until somebody listens to the field, which no event tells of
        field.fill("")
        field.press_sequentially("compute_capability")
        page.wait_for_timeout(1000)
        if results.count():
            break
    results.first.wait_for(timeout=1000)
    page.keyboard.press("Escape")  # closes the search, which covers the page
    page.get_by_role("link", name="Limits", exact=True).first.click()
    page.wait_for_url("**/limits.html")
    assert page.locator("table").count() == 1
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
