"""Lines of a UTF-8 file from any byte on, with their numbers and places."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trtbert.data import decoded_line
from trtbert.errors import InputError

_MAX_LINE = 2**24
"""Bytes of a line: more are no text, and reading on would fill the memory."""


@dataclass
class Position:
    """Where a reader is: the next byte and line."""

    start: int
    line: int


def read_lines(path: str, position: Position) -> Iterator[str]:
    """Each line, with its line feed; `position` moves past a line as it is given. InputError names the line that is no text."""
    try:
        with Path(path).open("rb") as stream:
            stream.seek(position.start)
            while raw := stream.readline(_MAX_LINE + 1):
                place, encoding = f"{path}, line {position.line}", "utf-8" if position.start else "utf-8-sig"
                position.start += len(raw)
                position.line += 1
                yield _checked(raw, place, encoding)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from error


def _checked(raw: bytes, place: str, encoding: str) -> str:
    if len(raw) > _MAX_LINE:
        raise InputError(f"{place}: a line of more than {_MAX_LINE} bytes is no text. Check the file.")
    return decoded_line(raw, place, encoding)
