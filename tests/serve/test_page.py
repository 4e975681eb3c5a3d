"""The page to try a model, in a real Chromium: what it shows is what the offline predictor answers."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import NEEDS_CHROMIUM, opened
from tests.serve.server import Server, serving
from trtbert.predictor import Predictor

pytestmark = NEEDS_CHROMIUM
Rows = list[tuple[str, str]]


def run(page: Page, server: Server, model: str, first: str, second: str = "") -> None:
    """Open the page and ask; the time says that the answer is there."""
    page.goto(server.url)
    page.get_by_label("Model").select_option(model)
    page.locator("#first").fill(first)
    if second:
        page.locator("#second").fill(second)
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("status")).to_contain_text(" ms")


def rows(page: Page) -> Rows:
    cells = page.locator("#answer td").all_inner_texts()
    return list(zip(cells[::2], cells[1::2], strict=True))


def shown(pairs: list[tuple[str, float]]) -> Rows:
    return [(text, f"{number:.4f}") for text, number in sorted(pairs, key=lambda pair: -pair[1])]


def test_labels(page: Page, server: Server, predictors: dict[str, Predictor]) -> None:
    run(page, server, "classifier", "a red cat")
    expected: Any = predictors["classifier"].predict(["a red cat"], top_k=10)[0]
    assert rows(page) == shown([(answer["label"], answer["score"]) for answer in expected])


def test_neighbours(page: Page, server: Server, predictors: dict[str, Predictor]) -> None:
    run(page, server, "embedder", "red", "blue cat\n\nred")
    query, *others = np.asarray(predictors["embedder"].encode(["red", "blue cat", "red"]))
    cosines = [float(query @ other / np.linalg.norm(query) / np.linalg.norm(other)) for other in others]
    assert rows(page) == shown(list(zip(["blue cat", "red"], cosines, strict=True)))


def test_ranks(page: Page, server: Server, predictors: dict[str, Predictor]) -> None:
    run(page, server, "ranker", "red", "blue\ncat")
    scores: Any = predictors["ranker"].predict([("red", "blue"), ("red", "cat")])
    assert rows(page) == shown([(text, float(np.ravel(score)[0])) for text, score in zip(["blue", "cat"], scores, strict=True)])


def test_answers_of_a_context(page: Page, server: Server, predictors: dict[str, Predictor]) -> None:
    run(page, server, "reader", "red", "a blue cat and a red cat")
    expected: Any = predictors["reader"].predict([{"question": "red", "context": "a blue cat and a red cat"}])[0]
    assert rows(page) == [(expected["answer"], f"{expected['score']:.4f}")]


def test_entities(page: Page, server: Server, predictors: dict[str, Predictor]) -> None:
    """The text is there whole, also beyond the Basic Multilingual Plane, with each entity marked."""
    words = itertools.permutations(("red", "blue", "cat", "\U0001f600", "Oslo"))
    text = next(text for text in map(" ".join, words) if predictors["tagger"].predict([text])[0])
    run(page, server, "tagger", text)
    expected: Any = predictors["tagger"].predict([text])[0]
    assert page.locator("#answer mark sub").all_inner_texts() == [f" {entity['entity_group']} {entity['score']:.2f}" for entity in expected]
    page.evaluate("for (const sub of document.querySelectorAll('sub')) sub.remove()")
    assert page.locator("#answer").inner_text() == text


def test_masked_words(page: Page, server: Server, predictors: dict[str, Predictor]) -> None:
    run(page, server, "filler", "a [MASK] cat")
    expected: Any = predictors["filler"].predict(["a [MASK] cat"])[0]
    assert rows(page) == [(answer["sequence"], f"{answer['score']:.4f}") for answer in expected]


def test_a_text_is_never_markup(page: Page, server: Server) -> None:
    run(page, server, "embedder", "red", "<img src=x onerror=alert(1)>\n<b>cat</b>")
    assert {text for text, _ in rows(page)} == {"<img src=x onerror=alert(1)>", "<b>cat</b>"}
    assert page.locator("#answer img, #answer b").count() == 0


def test_a_refusal_is_shown(browser: Browser, server: Server) -> None:
    """Chromium itself notes the status 400 on the console."""
    with pytest.raises(AssertionError, match="400"), opened(browser) as page:
        page.goto(server.url)
        page.get_by_label("Model").select_option("filler")
        page.locator("#first").fill("no mask")
        page.get_by_role("button", name="Run").click()
        expect(page.locator("#answer .error")).to_contain_text("mask")


def test_a_key_in_the_address(page: Page, packages: dict[str, Path]) -> None:
    with serving(packages["classifier"], env={"TRTBERT_SERVE_API_KEYS": "a-key-of-some-length-0123456789"}) as server:
        page.goto(f"http://any:a-key-of-some-length-0123456789@127.0.0.1:{server.port}/")
        page.locator("#first").fill("a red cat")
        page.get_by_role("button", name="Run").click()
        expect(page.get_by_role("status")).to_contain_text(" ms")
        assert rows(page)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_phone_needs_no_scrolling_sideways(browser: Browser, server: Server, path: str) -> None:
    with opened(browser, width=360, is_dark=True) as page:
        page.goto(server.url + path)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") in ("light dark", "normal")
