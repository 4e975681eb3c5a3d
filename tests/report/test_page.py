"""The page in a real Chromium: it shows the numbers of the JSON, on any screen, to everyone, and asks the network for nothing."""

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.browser import NEEDS_CHROMIUM, opened
from tests.report.conftest import HOSTILE, Packages, Report, report, rewrite_manifest
from trtbert.report import charts
from trtbert.report.page import milliseconds, render

pytestmark = NEEDS_CHROMIUM
REPORTS = ("single", "old", "hostile", "measured")


@pytest.fixture(params=REPORTS)
def any_report(request: pytest.FixtureRequest) -> Report:
    made: Report = request.getfixturevalue(request.param)
    return made


def cells(page: Page, table: str) -> list[list[str]]:
    """The text of each row of the table's body."""
    rows = page.locator(f"#{table} tbody tr").all()
    return [[text.strip() for text in row.locator("th, td").all_inner_texts()] for row in rows]


def shown(value: float | None, pattern: str) -> str:
    return "–" if value is None else format(value, pattern)


def test_it_renders_and_asks_for_nothing(browser: Browser, any_report: Report) -> None:
    requests: list[str] = []
    with opened(browser) as page:  # which fails on an error on the console, and so on what the policy forbids
        page.on("request", lambda request: requests.append(request.url))
        page.goto(any_report.page.as_uri())
        assert page.locator("h1").inner_text() and page.locator("h2").count() >= 4
        assert page.evaluate("document.scripts.length") == 0
        assert page.evaluate("getComputedStyle(document.querySelector('.tiles')).display") == "grid"
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_it_is_accessible(browser: Browser, any_report: Report, is_dark: bool) -> None:
    with opened(browser, is_dark=is_dark) as page:
        page.goto(any_report.page.as_uri())
        found = Axe().run(page)
    assert len(found.response["passes"]) > 15  # it really ran
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_a_phone_needs_no_scrolling_sideways(browser: Browser, any_report: Report, is_dark: bool) -> None:
    with opened(browser, width=360, is_dark=is_dark) as page:
        page.goto(any_report.page.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        red = int(re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[0])
        assert red < 60 if is_dark else red > 200


def test_it_prints_on_white_with_no_table_cut_off(browser: Browser, measured: Report) -> None:
    with opened(browser, width=720, is_dark=True) as page:
        page.goto(measured.page.as_uri())
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_stages_are_those_of_the_json(page: Page, single: Report) -> None:
    page.goto(single.page.as_uri())
    (package,) = single.facts["packages"]
    expected = []
    for row in package["stages"]:
        figures: Any = row["figures"] or {}
        patterns = [("max_error", ".1e"), ("cosine", ".6f"), ("mean_cosine", ".6f"), ("squared_error", ".1e"), ("label_agreement", ".2%")]
        numbers = [shown(figures.get(name), pattern) for name, pattern in patterns]
        expected.append([row["stage"], row["what"], *numbers, "passed" if figures else "nothing to verify"])
    assert [row[0] for row in expected] == ["export", "rewrite", "calibrate", "precision", "build"]
    assert cells(page, "p1-stages-table") == expected


def test_the_graph_is_that_of_the_json(page: Page, single: Report) -> None:
    page.goto(single.page.as_uri())
    nodes, layers = (single.facts["packages"][0]["graph"][name] for name in ("nodes", "layers"))
    expected = [["all", *map("{:,}".format, nodes["totals"])]]
    expected += [[row["type"], *map("{:,}".format, row["counts"])] for row in nodes["rows"]]
    assert cells(page, "p1-nodes-table") == expected
    expected = [[row["part"], *(f"{cell['fused']} fused" if cell["fused"] else "–" for cell in row["cells"])] for row in layers["rows"]]
    assert cells(page, "p1-layers-table") == expected


def test_int8_is_that_of_the_json(page: Page, single: Report) -> None:
    page.goto(single.page.as_uri())
    int8 = single.facts["packages"][0]["int8"]
    assert len(int8["parts"]) > 5 and all(part["cost"] is not None for part in int8["parts"])
    assert cells(page, "p1-parts-table") == [
        [
            part["part"],
            "INT8" if part["is_int8"] else "float",
            shown(part["cost"], ".1e"),
            "",
            shown(part["threshold"], ".4f"),
            shown(part["maximum"], ".4f"),
            shown(part["scale"], ".1e"),
        ]
        for part in int8["parts"]
    ]
    captions = page.locator("#p1-histograms figcaption").all_inner_texts()
    assert [caption.partition(":")[0] for caption in captions] == [
        f"threshold {tensor['threshold']:.3f} of {tensor['maximum']:.3f}" for tensor in int8["tensors"]
    ]
    for index, tensor in enumerate(int8["tensors"]):
        bars = page.locator("#p1-histograms svg").nth(index).locator("rect.bar").count()
        assert bars == sum(count > 0 for count in tensor["counts"])


def test_accuracy_and_files_are_those_of_the_json(page: Page, single: Report) -> None:
    page.goto(single.page.as_uri())
    (package,) = single.facts["packages"]
    found, interval, drop = (package["accuracy"], *(package["accuracy"][f"{name}_interval"] for name in ("int8", "drop")))
    assert [row[1:] for row in cells(page, "p1-accuracy-table")] == [
        [f"{found['float_score']:.4f}", "–"],
        [f"{found['int8_score']:.4f}", f"{interval['low']:.4f} to {interval['high']:.4f} (Wilson)"],
        [f"{found['drop']:.4f}", f"{drop['low']:.4f} to {drop['high']:.4f} (Tango)"],
        [f"{found['max_drop']:.4f}", "–"],
    ]
    files = cells(page, "p1-files-table")
    assert [row[0] for row in files] == [*(file["name"] for file in package["files"]), "all"]
    assert [row[2] for row in files[:-2]] == [file["sha256"] for file in package["files"][:-1]]
    assert page.locator("pre").last.inner_text().splitlines()[0] == package["commands"]["verify"]


def test_what_was_not_chosen_and_has_no_interval_is_not_said(single: Report) -> None:
    text = single.page.read_text()
    assert single.facts["packages"][0]["int8"]["reverted"] == [] and "stay in float were chosen" not in text and "no interval" not in text
    facts = copy.deepcopy(single.facts)
    (package,) = facts["packages"]
    package["accuracy"] |= {"int8_interval": None, "drop_interval": None}
    package["int8"]["reverted"] = ["layer 0 ffn up"]
    text = render(facts)
    assert "stay in float were chosen" in text and "there is no interval, see Accuracy" in text and "too few differ" in text


def test_a_latency_with_nothing_beside_it_is_not_called_compared(measured: Report) -> None:
    facts = copy.deepcopy(measured.facts)
    assert "beside its baseline" in render(facts) and "No baseline" not in render(facts)
    for contender in facts["measurement"]["contenders"]:
        contender["baseline"] = None
    assert "beside its baseline" not in render(facts) and "No baseline" in render(facts)


def test_it_says_how_long_the_texts_were(single: Report) -> None:
    facts = copy.deepcopy(single.facts)
    (package,) = facts["packages"]
    assert package["verification"]["max_tokens"] == package["max_length"] < 512
    assert f"up to {package['max_length']} tokens." in render(facts)
    package["max_length"], package["verification"]["max_tokens"] = 2048, 512
    assert "up to 512 tokens, where the model takes 2048." in render(facts)


def test_nothing_compared_is_not_verified(packages: Packages, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(packages.floats, empty)
    rewrite_manifest(empty, verification={"stages": [], "num_batches": 0, "num_texts": 0})
    made = report(tmp_path, empty)
    assert made.facts["packages"][0]["verification"]["is_passed"] is False
    text = made.page.read_text()
    assert "or none was compared" in text and "<dd>not verified<" in text and "Every stage answers" not in text


def test_a_trial_says_what_it_was_of(single: Report) -> None:
    facts = copy.deepcopy(single.facts)
    assert len(facts["packages"][0]["int8"]["trials"]) == 2  # smoothed and not
    assert "with all GEMMs in INT8 and the word embedding in float" in single.page.read_text()


def test_the_latency_is_that_of_the_json(page: Page, measured: Report) -> None:
    page.goto(measured.page.as_uri())
    expected = [
        [
            str(shape["batch"]),
            str(shape["length"]),
            result["name"],
            *(milliseconds(result[f"p{q}"]) for q in (50, 95, 99)),
            f"{result['texts_per_second']:.1f}",
            "–" if result["speedup"] is None else f"{result['speedup']:.2f} x",
            str(result["num_runs"]),
            "",
        ]
        for shape in measured.facts["measurement"]["shapes"]
        for result in shape["results"]
    ]
    assert len(expected) == 2 * 4  # two packages, ONNX Runtime and OpenVINO; the source is an .onnx file
    assert cells(page, "latency-table") == expected


def test_the_comparison_is_that_of_the_json(page: Page, measured: Report) -> None:
    page.goto(measured.page.as_uri())
    comparison = measured.facts["comparison"]
    assert [(row[0], row[3], row[5], row[6]) for row in cells(page, "comparison-table")] == [
        (row["name"], row["precision"], milliseconds(row["milliseconds"]), f"{row['quality']:.4f}") for row in comparison["rows"]
    ]
    assert page.locator(".plot circle").count() == 2
    assert page.locator(".plot circle.point").count() == sum(point["is_on_front"] for point in comparison["pareto"])
    assert {point["name"] for point in comparison["pareto"]} <= set(page.locator(".plot text").all_text_contents())


def test_names_that_lie_close_stay_in_the_picture(page: Page, measured: Report, tmp_path: Path) -> None:
    facts = copy.deepcopy(measured.facts)
    near = [
        {"name": f"a-package-with-a-long-name-int8-{x}", "x": 5.0 + x / 100, "y": 0.999 + x / 1e6, "is_on_front": True} for x in range(5)
    ]
    facts["comparison"]["pareto"] = [{"name": "floats", "x": 9.0, "y": 1.0, "is_on_front": True}, *near]
    (tmp_path / "page.html").write_text(render(facts))
    page.goto((tmp_path / "page.html").as_uri())
    frame = page.locator("svg.plot").bounding_box()
    assert frame is not None
    names = [point.name for point in charts.plot(facts["comparison"]["pareto"]).points]
    assert len(names) == 6
    for name in names:
        box = page.locator(".plot text", has_text=name).bounding_box()
        assert box is not None and frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
        assert frame["y"] <= box["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"]


def test_what_a_package_says_is_never_markup(page: Page, hostile: Report) -> None:
    page.goto(hostile.page.as_uri())
    assert page.locator("img, script, main b:not([class])").count() == 0
    assert HOSTILE in page.locator("main").inner_text()
    assert page.locator("h1").inner_text() == "<b>'\"&amp; package"


def test_an_old_package_says_what_it_did_not_record(page: Page, old: Report) -> None:
    page.goto(old.page.as_uri())
    assert page.locator("main").inner_text().count("not recorded, for the package is of an older trtbert") == 3
