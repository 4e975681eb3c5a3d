"""Facts -> the table and the plot: no engine needed."""

from typing import Any
from xml.etree import ElementTree

from trtbert.benchmark.noise import LIMITS
from trtbert.benchmark.plot import draw
from trtbert.benchmark.table import lines, three_digits

HOSTILE = "<b>&\"'" + "long-name/" * 8 + "int8"
SVG = "{http://www.w3.org/2000/svg}"


def result(name: str, p50: float, *, spread: float = 0.02, speedup: float | None = None) -> dict[str, Any]:
    times = {"p50": p50, "p95": p50 * 1.1, "p99": None, "texts_per_second": 1e3 / p50, "spread": spread}
    return {"name": name, **times, "speedup": speedup, "speedup_p10": speedup, "speedup_p90": speedup}


def facts(*warnings: str) -> dict[str, Any]:
    contenders = [{"name": "torch", "what": "words " * 30, "library": "torch", "source": "/m", "baseline": None}]
    contenders.append({"name": HOSTILE, "what": "onnxruntime", "library": None, "source": "/" + "x" * 200, "baseline": "torch"})
    shapes = [
        {
            "threads": threads,
            "batch": batch,
            "length": length,
            "results": [result("torch", 123456.7), result(HOSTILE, 1.5, spread=0.5, speedup=8e4)],
        }
        for threads in (1, 16)
        for batch in (1, 32)
        for length in (32, 512)
    ]
    row = {"p50": 1.0, "p95": None, "p99": None, "answers_per_second": 1e5, "is_held": False}
    return {
        "made_by": "trtbert 0",
        "measured_at": "2026-01-01 00:00 UTC",
        "machine": {"cpu": "A very long name of a CPU " * 5, "num_cores": 256, "system": "Linux"},
        "versions": dict.fromkeys(("numpy", "onnxruntime", "openvino", "tensorrt", "torch", "transformers"), "1.2.3"),
        "noise": {"limits": LIMITS, "warnings": list(warnings)},
        "contenders": contenders,
        "left_out": [{"names": ["openvino"], "why": "words " * 40}],
        "shapes": shapes,
        "arrivals": [{"threads": 16, "length": 512, "rate": 123456.0, "results": [{"name": HOSTILE, **row}]}],
    }


def test_every_line_fits() -> None:
    shown = list(lines(facts("words " * 30)))
    assert max(map(len, shown)) <= 80 and "\n".join(shown).isascii()


def test_rows_hold_the_numbers() -> None:
    shown = list(lines(facts()))
    row = next(line for line in shown if line.startswith("  ...") and "(" in line)
    assert row.split() == [f"...{HOSTILE[-18:]}", "1.50!", "1.65", "-", "666.7", "80000x", "(80000-80000)"]
    assert any(line.split() == ["torch", "123457", "135802", "-", "0.0"] for line in shown)
    assert shown.count("batch 32 x 512 tokens, 16 threads") == 1 and "batch 1 x 32 tokens, 1 thread" in shown
    assert any(line.endswith(" not held") for line in shown)


def test_of_several_source_models_each_line_says_which() -> None:
    shown = " ".join(" ".join(line.split()) for line in lines(facts()))
    assert "; runs /m " in shown and f"/{'x' * 20}" in shown and "; its speed is by torch " in shown
    single = facts()
    single["contenders"][1]["source"] = "/m"
    shown = " ".join(lines(single))
    assert "; runs" not in shown and "its speed is by" not in shown and "compiled from /m" in shown


def test_more_contenders_than_colours_look_different() -> None:
    many = facts()
    names = [f"c{number}" for number in range(20)]
    many["contenders"] = [many["contenders"][0] | {"name": name} for name in names]
    many["shapes"] = [many["shapes"][0] | {"results": [result(name, 1.0) for name in names]}]
    root = ElementTree.fromstring(draw(many))
    looks = [(line.attrib["stroke"], line.attrib.get("stroke-dasharray")) for line in root.findall(f"{SVG}path")]
    assert len(set(looks)) == len(looks) == 20


def test_a_noisy_machine_is_seen_above_and_below_the_table() -> None:
    quiet, noisy = list(lines(facts())), list(lines(facts("Other programs ran.")))
    assert not any("WARNING" in line or "noisy" in line for line in quiet)
    assert "WARNING  Other programs ran." in noisy[:12] and noisy[-1].startswith("The machine was noisy")
    assert "noisy" not in draw(facts()) and "The machine was noisy" in draw(facts("Other programs ran."))


def test_the_plot_is_of_one_number_of_threads() -> None:
    root = ElementTree.fromstring(draw(facts()))
    assert len(root.findall(f"{SVG}polyline")) == 2 * 2 and len(root.findall(f"{SVG}circle")) == 2 * 4
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert HOSTILE in texts and "ms of a batch of 1, median" in texts and "texts/s at 512 tokens" in texts
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for circle in root.findall(f"{SVG}circle"):
        assert 0 <= float(circle.attrib["cx"]) <= width and 0 <= float(circle.attrib["cy"]) <= height


def test_the_plot_asks_the_network_for_nothing() -> None:
    assert draw(facts()).count("http") == 1  # the name of SVG itself


def test_three_digits_count() -> None:
    assert [three_digits(value) for value in (0.123, 9.99, 12.34, 123.4)] == ["0.12", "9.99", "12.3", "123"]
