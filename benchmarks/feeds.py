"""Tokenized texts, one to a feed, <-> an .npz file: what the processes of a script hand to each other. Needs numpy alone."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Feeds = dict[str, npt.NDArray[Any]]
"""[batch, sequence] arrays by the name of the input."""


def write_feeds(path: Path, feeds: Iterable[Feeds]) -> Path:
    arrays = {f"{index}/{name}": array for index, feed in enumerate(feeds) for name, array in feed.items()}
    np.savez(path, **arrays)
    return path


def read_feeds(path: Path) -> list[Feeds]:
    feeds: dict[str, Feeds] = defaultdict(dict)
    with np.load(path) as file:
        for key in file.files:
            index, _, name = key.partition("/")
            feeds[index][name] = file[key]
    return list(feeds.values())
