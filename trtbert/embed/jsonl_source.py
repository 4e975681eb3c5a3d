"""A .jsonl file of objects: where its rows lie and what columns they have, and the rows of a shard."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from trtbert.embed.json_columns import Kinds, columns_of, note_kinds, schema_of
from trtbert.embed.lines import Position, read_lines
from trtbert.embed.shards import CHUNK, Cut
from trtbert.errors import InputError


def scan(paths: Sequence[str], texts: Sequence[str], rows_per_shard: int) -> tuple[pa.Schema, list[Cut]]:
    """Read every row once: a bad one is found before any work. InputError names its line."""
    kinds: Kinds = {}
    cuts: list[Cut] = []
    for path in paths:
        position = Position(0, 1)
        first, rows = Position(0, 1), 0
        for row, place in _rows(path, position):
            _check_texts(row, texts, place)
            note_kinds(kinds, row)
            rows += 1
            if rows == rows_per_shard:
                cuts.append(Cut(path, rows, first.start, first.line))
                first, rows = Position(position.start, position.line), 0
        if rows:
            cuts.append(Cut(path, rows, first.start, first.line))
    return schema_of(kinds), cuts


def read(cut: Cut, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows in chunks."""
    rows = _rows(cut.path, Position(cut.start, cut.line))
    wanted = (row for row, _ in islice(rows, cut.rows))
    while chunk := list(islice(wanted, CHUNK)):
        yield columns_of(chunk, schema)


def _rows(path: str, position: Position) -> Iterator[tuple[dict[str, Any], str]]:
    """Each object with its place; blank lines are no rows."""
    for line in read_lines(path, position):
        if line.strip():
            place = f"{path}, line {position.line - 1}"
            yield _object(line, place), place


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: this is not valid JSON ({error}). A .jsonl file holds one object a line.") from error
    if not isinstance(row, dict):
        raise InputError(f'{place}: there must be an object, such as {{"text": "..."}}, got a {type(row).__name__}.')
    if "\\u" in line:  # The one way to write half of a surrogate pair.
        _check_unicode(row, place)
    return row


def _check_unicode(row: dict[str, Any], place: str) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place}: a text is not valid Unicode: {error}. Correct the \\u escapes.") from error


def _check_texts(row: dict[str, Any], texts: Sequence[str], place: str) -> None:
    for name in texts:
        if name not in row:
            raise InputError(f"{place}: there is no column {name!r}; choose one of {list(row)} with --text-column or --pair-column.")
        if not isinstance(row[name], str):
            value = "null" if row[name] is None else f"{repr(row[name])[:80]} ({type(row[name]).__name__})"
            raise InputError(f"{place}: the column {name!r} must hold texts, got {value}. Leave the row out, or give it a text.")
