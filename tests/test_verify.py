"""What the comparison of a stage sees, what it lets pass, and how it names a stage that broke the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tests.sources import BERT, make_source
from trtbert import verify
from trtbert.config import CompileConfig, Precision
from trtbert.errors import VerificationError
from trtbert.export import Source, load_source
from trtbert.rewrite import rewrite
from trtbert.tasks import Task
from trtbert.verification import verification_batches
from trtbert.verifier import Verifier
from trtbert.verify import Feeds

MASK = np.array([[1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]], np.int32)
FEEDS: list[Feeds] = [{"attention_mask": MASK}]
SCORES = np.array([[0.1, 0.7, 0.2], [0.3, 0.3, 0.4], [0.5, 0.25, 0.25]], np.float32)
HIDDEN = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)


def _compare(expected: Any, actual: Any, task: Task = "feature-extraction", precision: Precision = "fp32") -> Any:
    run: Callable[[Feeds], Feeds] = lambda feeds: {"y": actual}  # noqa: E731
    return verify.compare("rewrite", FEEDS, [{"y": expected}], run, task=task, limits=verify.LIMITS[precision])


def _changed(array: Any, index: Any, value: float) -> Any:
    result = array.copy()
    result[index] = value
    return result


def test_equal_outputs_pass() -> None:
    figures = _compare(HIDDEN, HIDDEN)
    assert (figures.max_error, figures.cosine, figures.label_agreement, figures.is_passed) == (0.0, pytest.approx(1.0), None, True)
    assert verify.check(figures, limits=verify.LIMITS["fp32"]) is figures


def test_the_error_is_relative_to_the_largest_output() -> None:
    figures = _compare(HIDDEN * 100, _changed(HIDDEN * 100, (0, 1, 2), HIDDEN[0, 1, 2] * 100 + 0.5))
    scale = np.abs(np.concatenate([HIDDEN[0, :3], HIDDEN[1, 1:]])).max() * 100
    assert figures.max_error == pytest.approx(0.5 / scale, rel=1e-3)
    assert not figures.is_passed


@pytest.mark.parametrize("place", [(0, 3), (1, 0), (2, 1)])
def test_padding_is_not_compared(place: tuple[int, int]) -> None:
    assert _compare(HIDDEN, _changed(HIDDEN, place, 7.0)).max_error == 0.0


def test_logits_of_padding_are_not_compared() -> None:
    logits = HIDDEN[:, :, 0]
    assert _compare(logits, _changed(logits, (0, 3), 7.0), "question-answering").is_passed
    assert not _compare(logits, _changed(logits, (0, 2), 7.0), "question-answering").is_passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (0, 3, 0), (2, 0, 0)])
def test_every_number_must_be_finite(value: float, place: tuple[int, int, int]) -> None:
    figures = _compare(HIDDEN, _changed(HIDDEN, place, value))
    assert (figures.is_passed, figures.max_error, figures.cosine) == (False, float("inf"), 0.0)


def test_a_label_that_changes_is_named_although_the_error_is_small() -> None:
    expected, actual = _changed(SCORES, (1, 2), 0.302), _changed(SCORES, (1, 2), 0.298)
    figures = _compare(expected, actual, "text-classification", "bf16")
    assert figures.label_agreement == 0.5 and figures.is_passed, "the source was not clear about it"
    expected = _changed(SCORES, (1, 2), 0.36)
    figures = _compare(expected, _changed(SCORES, (1, 2), 0.299), "text-classification", "bf16")
    assert figures.max_error < verify.LIMITS["bf16"].max_error and not figures.is_passed
    with pytest.raises(VerificationError, match=r"The stage 'rewrite' broke the model: .*labels agree in 50.00% of the rows"):
        verify.check(figures, limits=verify.LIMITS["bf16"])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_each_precision_has_its_limits(precision: Precision) -> None:
    limit = verify.LIMITS[precision].max_error
    scale = np.abs(np.concatenate([HIDDEN[0, :3], HIDDEN[1, 1:]])).max()
    for factor, is_passed in ((0.5, True), (2.0, False)):
        actual = _changed(HIDDEN, (0, 0, 0), HIDDEN[0, 0, 0] + factor * limit * scale)
        figures = _compare(HIDDEN, actual, precision=precision)
        assert (figures.max_error <= limit) == is_passed
        assert is_passed or not figures.is_passed


def test_int8_may_change_its_mind_about_a_row_but_not_about_most() -> None:
    one_flipped = _compare(HIDDEN, _changed(HIDDEN, (0, 0), -HIDDEN[0, 0]), precision="int8")
    assert one_flipped.cosine == pytest.approx(-1.0) and one_flipped.is_passed
    all_flipped = _compare(HIDDEN, -HIDDEN, precision="int8")
    assert all_flipped.squared_error == pytest.approx(4.0) and not all_flipped.is_passed
    slightly = _compare(HIDDEN, HIDDEN + 0.1 * np.abs(HIDDEN).mean(), precision="int8")
    assert slightly.is_passed and 0.9 < slightly.mean_cosine < 1.0
    for wrong in (np.zeros_like(HIDDEN), 10 * HIDDEN):
        assert not _compare(HIDDEN, wrong, precision="int8").is_passed
    with pytest.raises(VerificationError, match=r"Allowed is a squared error of 0.2"):
        verify.check(all_flipped, limits=verify.LIMITS["int8"])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, list[Feeds]]:
    folder = tmp_path_factory.mktemp("source")
    path, tokenizer = make_source(folder, BERT)
    source = load_source(path, CompileConfig(tokenizer=tokenizer), folder / "out")
    return source, verification_batches(folder / "out" / "tokenizer.json", source.facts)


def test_the_first_stage_that_breaks_is_named(source: tuple[Source, list[Feeds]], tmp_path: Path) -> None:
    loaded, batches = source
    (tmp_path / "scratch").mkdir()
    verifier = Verifier(loaded, batches, tmp_path / "scratch", tmp_path)
    verifier.check("export", loaded.model)
    model = rewrite(loaded.model, architecture="bert", num_layers=2).model
    merged = next(value for name, value in model.graph.initializers.items() if name.count("+") == 2)
    assert merged.const_value is not None
    merged.const_value = ir.tensor(merged.const_value.numpy() * np.float32(1.05), name=merged.name)
    with pytest.raises(VerificationError) as caught:
        verifier.check("rewrite", model)
    message = str(caught.value)
    assert (
        message.startswith("The stage 'rewrite' broke the model: against the source model, error ")
        and "Every stage before it passed" in message
    )
    assert "--dump" in message and caught.value.exit_code == 4
    assert [stage.stage for stage in verifier.stages] == ["export"]
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == ["01-export.onnx", "02-rewrite.onnx"]


def test_a_stage_that_does_not_compute_the_int8_graph_is_named(source: tuple[Source, list[Feeds]], tmp_path: Path) -> None:
    loaded, batches = source
    verifier = Verifier(loaded, batches, tmp_path, None)
    expected = {id(feeds): outputs for feeds, outputs in zip(batches, verifier.expected, strict=True)}
    verifier.check_runner("calibrate", lambda feeds: expected[id(feeds)], precision="int8")
    others = {key: {name: array[..., ::-1] * 0.1 + array for name, array in outputs.items()} for key, outputs in expected.items()}
    verifier.check_runner("precision", lambda feeds: others[id(feeds)], precision="int8")  # within what it may differ by from Q/DQ
    wrong = {key: {name: array * np.array([2.0, 1.0, 1.0]) for name, array in outputs.items()} for key, outputs in expected.items()}
    with pytest.raises(VerificationError, match="The stage 'build' broke the model: against the Q/DQ graph"):
        verifier.check_runner("build", lambda feeds: wrong[id(feeds)], precision="int8")


def test_the_batches_are_padded_in_every_way(source: tuple[Source, list[Feeds]]) -> None:
    loaded, batches = source
    masks = [feeds["attention_mask"] for feeds in batches]
    assert {tuple(feeds) for feeds in batches} == {tuple(tensor.name for tensor in loaded.facts.inputs)}
    assert all(feeds[name].dtype == np.int32 for feeds in batches for name in feeds)
    assert max(mask.shape[1] for mask in masks) == loaded.facts.max_length
    assert {1, 8} <= {len(mask) for mask in masks} and len({mask.shape[1] for mask in masks}) > 2
    rows = [row for mask in masks for row in mask]
    assert any(row[0] == 0 and row[-1] == 1 for row in rows), "no row is padded on the left"
    assert any(row[0] == 1 and row[-1] == 0 for row in rows), "no row is padded on the right"
    assert any((np.diff(row) > 0).sum() > 1 for row in rows), "no row has holes"
    assert any(not row.any() for row in rows), "no row is empty"
