"""Contenders answer alike, within what their precisions allow, or nothing is timed."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.benchmark.conftest import Packages
from trtbert.benchmark.contender import Contender
from trtbert.benchmark.field import Group, Racer, check_answers
from trtbert.benchmark.shapes import answered_feeds
from trtbert.config import Precision, Profile, Range
from trtbert.errors import VerificationError
from trtbert.package import open_package
from trtbert.verify import Feeds

FEEDS = {"attention_mask": np.ones((2, 4), np.int32)}
EXPECTED = np.random.default_rng(0).normal(size=(2, 64))


@dataclass(frozen=True)
class Worker:
    """Answers as it was told, in the place of a process."""

    answer: Any

    def call(self, function: Any, feeds: Feeds) -> Feeds:
        return {"sentence_embedding": self.answer}


def racer(name: str, answer: Any, precision: Precision = "fp32") -> Racer:
    raced = Contender(name=name, package=Path("package"), library="torch" if name == "torch" else None)
    return Racer(contender=raced, worker=cast(Any, Worker(answer)), what="", precision=precision)


def group(*racers: Racer) -> Group:
    class Facts:
        task = "sentence-similarity"

    class Manifest:
        model = Facts

    class Package:
        manifest = Manifest

    return Group(packages={"package": cast(Any, Package)}, racers=racers)


def test_all_are_compared_with_the_first() -> None:
    (near, far) = check_answers(
        group(racer("torch", EXPECTED), racer("a", EXPECTED * (1 + 1e-6)), racer("b", EXPECTED + 0.05 * EXPECTED[:, ::-1], "int8")), [FEEDS]
    )
    assert (near["name"], near["as"], far["name"], far["as"]) == ("a", "torch", "b", "torch")
    assert near["max_error"] < 2e-6 and near["cosine"] > 0.999999
    assert 0.99 < far["cosine"] < 0.9999


def test_floats_may_not_differ_as_int8_may() -> None:
    with pytest.raises(VerificationError, match="a does not answer as torch does, and nothing was timed"):
        check_answers(group(racer("torch", EXPECTED), racer("a", EXPECTED + 0.05 * EXPECTED[:, ::-1])), [FEEDS])


def test_int8_is_not_anything() -> None:
    with pytest.raises(VerificationError, match="a does not answer as torch does"):
        check_answers(group(racer("torch", EXPECTED), racer("a", EXPECTED[:, ::-1], "int8")), [FEEDS])


def test_without_a_baseline_packages_are_compared_with_each_other() -> None:
    """The coarser precision of the two counts, whichever comes first."""
    rough = racer("rough", EXPECTED + 0.05 * EXPECTED[:, ::-1], "int8")
    found = group(rough, racer("fine", EXPECTED))
    assert found.baseline is None and [row["as"] for row in check_answers(found, [FEEDS])] == ["rough"]
    assert group(racer("torch", EXPECTED), rough).baseline is not None
    assert check_answers(group(rough), [FEEDS]) == []


def test_numbers_that_are_none() -> None:
    with pytest.raises(VerificationError):
        check_answers(group(racer("torch", EXPECTED), racer("a", EXPECTED * np.nan, "int8")), [FEEDS])


def test_many_texts_are_compared(packages: Packages) -> None:
    """Several lengths and pairs, so that the scale of the answers is not that of one text; none without a token."""
    first, second = (open_package(path) for path in (packages.floats, packages.int8))
    batches = answered_feeds([first, second], (1, 8))
    assert sum(len(feeds["input_ids"]) for feeds in batches) > 15 and len({feeds["input_ids"].shape[1] for feeds in batches}) > 3
    assert any(feeds["token_type_ids"].any() for feeds in batches) and all(feeds["attention_mask"].any(1).all() for feeds in batches)


def test_an_engine_of_one_shape_answers_that(packages: Packages) -> None:
    first, second = (open_package(path) for path in (packages.floats, packages.int8))
    only = Range(min=4, opt=4, max=4)
    narrow = replace(second, manifest=second.manifest.model_copy(update={"profiles": (Profile(batch_size=only, seq_len=only),)}))
    (feeds,) = answered_feeds([first, narrow], (4, 4))
    assert feeds["input_ids"].shape == (4, 4)
