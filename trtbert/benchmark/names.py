"""Paths of packages -> short names that tell them apart."""

from collections.abc import Sequence
from pathlib import Path

from trtbert.errors import InputError


def names_of(paths: Sequence[Path]) -> list[str]:
    """The folder's name, with as many of its parents as it takes; InputError for a folder that is given twice."""
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise InputError("A package is given twice. Give each once.")
    names = [own[-1] for own in parts]
    for num in range(2, max(map(len, parts)) + 1):
        if len(set(names)) == len(names):
            break
        names = ["/".join(own[-num:]) if names.count(name) > 1 else name for own, name in zip(parts, names, strict=True)]
    return names
