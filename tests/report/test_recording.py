"""What a compilation records for its report: nodes, places, options, histograms, intervals."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtbert
from tests.report.conftest import Packages
from tests.sources import make_source
from trtbert.accuracy_intervals import bootstrap, tango, wilson
from trtbert.calibrate.coarse import coarse
from trtbert.calibrate.thresholds import Histogram
from trtbert.cli import main
from trtbert.config import CompileConfig
from trtbert.package import HISTOGRAMS, open_package, read_histograms
from trtbert.report.graph import graph_facts


def test_wilson_is_the_published_one() -> None:
    """Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I: 81 of 263."""
    found = wilson(100 * 81 / 263, 263)
    assert (found.low, found.high) == (pytest.approx(25.53, abs=0.01), pytest.approx(36.62, abs=0.01))
    sure = wilson(100.0, 20)
    assert sure.high == 100.0 and sure.low == pytest.approx(83.9, abs=0.1)


def test_tango_is_the_published_one() -> None:
    """Fagerland et al., "Recommended tests and confidence intervals for paired binomial proportions", 2014: 1 lost and 7 won of 21."""
    found = tango(1, 7, 21)
    assert (found.low, found.high) == (pytest.approx(-51.7, abs=0.05), pytest.approx(-2.6, abs=0.05))
    turned = tango(7, 1, 21)
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


def test_no_answer_that_changes_is_no_certainty() -> None:
    found = tango(0, 0, 500)
    assert found.high == pytest.approx(100 - wilson(100.0, 500).low) and found.low == pytest.approx(-found.high)
    assert 0.6 < found.high < 0.9  # 3 of n, one way and with a confidence of 95 %, is 0.6
    assert tango(500, 0, 500).high == 100.0


@pytest.mark.parametrize(("lost", "won"), [(0.02, 0.0), (0.05, 0.02), (0.3, 0.2)])
def test_tango_holds_the_difference_as_often_as_it_says(lost: float, won: float) -> None:
    num, held = 50, 0.0
    for num_lost in range(num + 1):
        for num_won in range(num + 1 - num_lost):
            rest = num - num_lost - num_won
            ways = math.comb(num, num_lost) * math.comb(num - num_lost, num_won)
            probability = ways * lost**num_lost * won**num_won * (1 - lost - won) ** rest
            if probability > 1e-9:
                found = tango(num_lost, num_won, num)
                held += probability * (found.low <= 100 * (lost - won) <= found.high)
    assert held > 0.94


def test_scores_that_are_all_equal_have_no_interval() -> None:
    assert bootstrap([0.0] * 200, [1.0] * 200) is None
    assert bootstrap([100.0] * 9, list(range(1, 10))) is None
    assert bootstrap([0.0] * 196 + [-1.0, 1.0, 2.0, 3.0], [1.0] * 200) is None
    assert bootstrap([0.0] * 195 + [-1.0, 1.0, 2.0, 3.0, 3.0], [1.0] * 200) is not None


def test_the_bootstrap_of_a_mean() -> None:
    scores = np.random.default_rng(0).normal(50, 10, 400)
    found = bootstrap(list(scores), [1.0] * 400)
    assert found is not None
    half = 1.96 * scores.std() / 20
    assert (found.low, found.high) == (pytest.approx(scores.mean() - half, abs=0.3), pytest.approx(scores.mean() + half, abs=0.3))
    weighted = bootstrap([0.0] * 50 + [100.0] * 50, [3.0] * 50 + [1.0] * 50)
    assert weighted is not None and weighted.low < 25 < weighted.high < 50


def test_a_coarse_histogram_counts_every_value() -> None:
    counts = np.arange(2049)
    found = coarse(Histogram(counts, 0.5, 1024.2))
    assert len(found.counts) <= 64 and sum(found.counts) == counts.sum()
    assert found.counts[0] == counts[:33].sum() and found.bin_width == 0.5 * 33
    assert coarse(Histogram(np.array([3, 4]), 1.0, 1.5)).counts == (3, 4)


def test_nodes_and_places(packages: Packages) -> None:
    manifest = open_package(packages.int8).manifest
    assert list(manifest.nodes) == ["export", "rewrite", "calibrate", "build"]
    assert manifest.nodes["calibrate"]["QuantizeLinear"] > 0 and "QuantizeLinear" not in manifest.nodes["rewrite"]
    fused = {name.removeprefix("trtbert::"): count for name, count in manifest.nodes["rewrite"].items() if name.startswith("trtbert::")}
    assert fused == {op: count for op, count in manifest.fusions.items() if count}
    places = [(place.part, place.op) for place in manifest.places if place.reason is None]
    assert len(places) == sum(manifest.fusions.values()) and places[0] == ("embeddings", "FusedEmbedLayerNorm")
    assert [part for part, op in places if op == "FusedQkvAttention"] == [f"layer {n}" for n in range(manifest.model.num_layers or 0)]


def test_every_miss_has_a_place(tmp_path: Path) -> None:
    """DeBERTa's attention and embeddings are of another kind."""
    model, tokenizer = make_source(tmp_path, "deberta-v2-eager-opset14.onnx")
    package = trtbert.compile(model, tmp_path / "package", CompileConfig(tokenizer=tokenizer, runtime="onnxruntime"))
    manifest = package.manifest
    assert [(place.part, place.op) for place in manifest.places if place.reason] == [
        ("embeddings", "FusedEmbedLayerNorm"),
        ("layer 0", "FusedQkvAttention"),
    ]
    assert sorted((place.op, place.node, place.reason) for place in manifest.places if place.reason) == sorted(
        (miss.rule, miss.node, miss.reason) for miss in manifest.unfused
    )
    layers: Any = graph_facts(manifest)["layers"]
    (row,) = (row for row in layers["rows"] if row["part"] == "layer 0")
    counts = {op: (cell["fused"], len(cell["reasons"])) for op, cell in zip(layers["ops"], row["cells"], strict=True)}
    none = (0, 0)
    assert counts == {"FusedEmbedLayerNorm": none, "FusedQkvAttention": (0, 1), "FusedSkipLayerNorm": (2, 0), "FusedBiasGelu": (1, 0)}


def test_histograms_are_of_the_calibrated_tensors(packages: Packages) -> None:
    package = open_package(packages.int8)
    histograms, quantization = read_histograms(package), package.manifest.quantization
    assert histograms is not None and quantization is not None
    assert set(histograms.tensors) == {part.tensor for part in quantization.parts if part.tensor is not None}
    for part in quantization.parts:
        if part.tensor is not None and part.maximum is not None:
            found = histograms.tensors[part.tensor]
            assert (
                len(found.counts) <= 64 and (len(found.counts) - 1) * found.bin_width <= part.maximum <= len(found.counts) * found.bin_width
            )
    assert read_histograms(open_package(packages.floats)) is None


def test_a_repeated_calibration_keeps_its_histograms(packages: Packages, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    names = ("calibration.cache", "calibration.cache.json", HISTOGRAMS)
    for name in names:
        shutil.copyfile(packages.int8 / name, kept / name)
    manifest = open_package(packages.int8).manifest
    source = [manifest.source.path, "--tokenizer", str(manifest.source.tokenizer), "--runtime", "onnxruntime", "--precision", "int8"]
    again = ["compile", *source, "--calibration-cache", str(kept / names[0]), "-o"]
    assert main([*again, str(tmp_path / "same")]) == 0
    assert (tmp_path / "same" / HISTOGRAMS).read_bytes() == (packages.int8 / HISTOGRAMS).read_bytes()
    fields: Any = json.loads((kept / HISTOGRAMS).read_text())
    (kept / HISTOGRAMS).write_text(json.dumps(fields | {"calibration_sha256": "other"}))
    assert main([*again, str(tmp_path / "other")]) == 0
    assert read_histograms(open_package(tmp_path / "other")) is None


def test_the_budget_has_intervals(packages: Packages) -> None:
    quantization = open_package(packages.int8).manifest.quantization
    assert quantization is not None and quantization.budget is not None
    budget = quantization.budget
    assert budget.int8_interval == wilson(budget.int8_score, budget.num_examples)
    assert budget.drop_interval is not None and budget.drop_interval.method == "tango"
    assert budget.drop_interval.low < budget.float_score - budget.int8_score < budget.drop_interval.high


def test_the_options_of_a_plain_compilation(packages: Packages) -> None:
    options = open_package(packages.floats).manifest.options
    assert set(options) == {"tokenizer", "runtime"} and Path(options["tokenizer"]).is_absolute()


def test_an_old_package_opens(packages: Packages) -> None:
    manifest = open_package(packages.old).manifest
    assert (manifest.nodes, manifest.places, manifest.options) == ({}, (), {})
