"""A .csv file with a header: where its rows lie, and the rows of a shard. All values stay texts: "007" is no number."""

import csv
from collections.abc import Iterator, Sequence
from itertools import islice

import pyarrow as pa

from trtbert.embed.lines import Position, read_lines
from trtbert.embed.shards import CHUNK, Cut
from trtbert.errors import InputError

_MAX_FIELD = 2**24


def scan(paths: Sequence[str], texts: Sequence[str], rows_per_shard: int) -> tuple[pa.Schema, list[Cut]]:
    """Read every row once: a bad one is found before any work. InputError names its line."""
    header: list[str] = []
    cuts: list[Cut] = []
    for path in paths:
        position = Position(0, 1)
        rows = _rows(path, position)
        found = next(rows, [])
        _check_header(path, found, header or found, texts)
        header = found
        first, num = Position(position.start, position.line), 0
        for fields in rows:
            if len(fields) != len(header):
                place = f"{path}, line {position.line - 1}"
                raise InputError(
                    f"{place}: there must be {len(header)} columns as in the header, got {len(fields)}. Quote a text that holds a comma."
                )
            num += 1
            if num == rows_per_shard:
                cuts.append(Cut(path, num, first.start, first.line))
                first, num = Position(position.start, position.line), 0
        if num:
            cuts.append(Cut(path, num, first.start, first.line))
    return pa.schema([pa.field(name, pa.string()) for name in header]), cuts


def read(cut: Cut, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows in chunks."""
    rows = islice(_rows(cut.path, Position(cut.start, cut.line)), cut.rows)
    while chunk := list(islice(rows, CHUNK)):
        yield pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in zip(*chunk, strict=True)], schema=schema)


def _rows(path: str, position: Position) -> Iterator[list[str]]:
    """The fields of each row; the reader takes no line more than a row needs, so that `position` is just past it."""
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD))
    reader = csv.reader(read_lines(path, position), strict=True)
    try:
        yield from filter(None, reader)  # A blank line is no row; a row of empty fields is one.
    except csv.Error as error:
        raise InputError(f"{path}, line {position.line - 1}: {error}. Check the quotes up to this line.") from error


def _check_header(path: str, found: list[str], header: list[str], texts: Sequence[str]) -> None:
    if not found:
        raise InputError(f"{path} has no header, the line with the names of its columns. Add it.")
    if found != header:
        raise InputError(f"{path} has the columns {found}, and the file before it {header}; run the command for each kind of file.")
    if len(set(found)) < len(found):
        raise InputError(f"{path} has several columns of one name: {found}. Rename them.")
    for name in texts:
        if name not in found:
            raise InputError(f"{path}: there is no column {name!r}; choose one of {found} with --text-column or --pair-column.")
