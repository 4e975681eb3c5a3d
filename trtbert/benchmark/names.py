"""Paths of packages -> short names that tell them apart, from each other and from the ways to run their source models."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from trtbert.benchmark.config import Library
from trtbert.errors import InputError

_OTHERS = re.compile(rf"({'|'.join(get_args(Library))})( \d+)?")
"""Names of contenders that are no packages."""


def names_of(paths: Sequence[Path]) -> list[str]:
    """The folder's name, with as many of its parents as it takes; InputError for a folder that is given twice."""
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise InputError("A package is given twice. Give each once.")
    names = [own[-1] for own in parts]
    for num in range(2, max(map(len, parts)) + 1):
        taken = {name for name in names if names.count(name) > 1 or _OTHERS.fullmatch(name)}
        names = ["/".join(own[-num:]) if name in taken else name for own, name in zip(parts, names, strict=True)]
    return names
