"""Contenders and texts -> how near the answers of each are to those of PyTorch, and how well they tell classes apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from centroids import accuracy_by_centroids
from contenders import Array, Contender, cosines, embed
from feeds import Feeds
from rich.console import Console
from rich.table import Table
from rivals import TORCH, reason
from tables import progress
from texts import draw, labelled_feeds

NUM_TRAIN = 1500
"""Labelled texts that the centroids are the means of; a run of a contender is one text."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    embeddings_ND: Array
    """Of texts that nobody was calibrated on."""
    accuracy: float | None
    """In percent, by the nearest centroid; None without labelled texts."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    feeds: Sequence[Feeds]
    """Of the texts of `train`, then of `test`."""
    train: Sequence[tuple[str, ...]]
    test: Sequence[tuple[str, ...]]
    source: str


def read_labelled(package: Path, files: Sequence[Path]) -> Labelled:
    """Of a file for the centroids and one for the test; the package has the tokenizer."""
    train, test = (labelled_feeds(package, file) for file in files)
    train = draw(train, NUM_TRAIN)
    feeds, labels = [feed for feed, _ in (*train, *test)], [label for _, label in (*train, *test)]
    source = f"{files[1].parent.name}'s {files[1].name}, {len(test)} texts by the centroids of {len(train)}"
    return Labelled(feeds=feeds, train=labels[: len(train)], test=labels[len(train) :], source=source)


def compare(
    contenders: Sequence[Contender], failed: dict[str, str], unseen: Sequence[Feeds], labelled: Labelled | None
) -> dict[str, Quality]:
    """What each answers, one text at a time; a rival that cannot run goes into `failed`."""
    qualities = {}
    for contender in contenders:
        progress(f"Comparing: {contender.name}")
        try:
            vectors_ND = embed(contender, [*unseen, *(labelled.feeds if labelled else ())])
        except Exception as error:  # whatever somebody else's library raises
            if contender.kind == "package" or contender.name == TORCH:
                raise
            failed[contender.name] = reason(f"{type(error).__name__}: {error}")
            continue
        qualities[contender.name] = Quality(embeddings_ND=vectors_ND[: len(unseen)], accuracy=_score(vectors_ND[len(unseen) :], labelled))
    return qualities


def _score(vectors_ND: Array, labelled: Labelled | None) -> float | None:
    if labelled is None:
        return None
    num_train = len(labelled.train)
    return accuracy_by_centroids(vectors_ND[:num_train], vectors_ND[num_train:], labelled.train, labelled.test)


def print_qualities(
    console: Console,
    title: str,
    caption: str,
    qualities: Mapping[str, Quality],
    failed: Mapping[str, str],
    labelled: Labelled | None,
) -> None:
    expected_ND = qualities[TORCH].embeddings_ND
    accuracy = f"; accuracy: {labelled.source}" if labelled else ""
    table = Table(title=f"{title}: quality", caption=f"cosines of {len(expected_ND)} other texts to {TORCH}; INT8 {caption}{accuracy}")
    headings = ("", "mean cosine", "smallest", *(("accuracy %", "points") if labelled else ()))
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    for name, quality in qualities.items():
        cosines_N = cosines(quality.embeddings_ND, expected_ND)
        table.add_row(name, f"{cosines_N.mean():.5f}", f"{cosines_N.min():.4f}", *_accuracy_cells(quality, qualities[TORCH]))
    console.print(table)
    for name, why in failed.items():
        console.print(f"{name} was not run: {why}", markup=False)


def _accuracy_cells(quality: Quality, baseline: Quality) -> Iterator[str]:
    if quality.accuracy is not None and baseline.accuracy is not None:
        yield from (f"{quality.accuracy:.2f}", f"{quality.accuracy - baseline.accuracy:+.2f}")
