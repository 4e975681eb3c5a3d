"""A .parquet file: its rows are counted by its footer and cut where shards end, in the middle of a row group if need be."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trtbert.embed.shards import CHUNK, Cut
from trtbert.errors import InputError


def scan(paths: Sequence[str], texts: Sequence[str], rows_per_shard: int) -> tuple[pa.Schema, list[Cut]]:
    """Read the texts once: a null is found before any work. InputError names its row, from 0."""
    schema: pa.Schema | None = None
    cuts: list[Cut] = []
    for path in paths:
        with _open(path) as file:
            found = file.schema_arrow
            schema = schema or found
            if not found.equals(schema):
                raise InputError(f"{path} has other columns, or types, than the file before it; run the command for each kind of file.")
            _check_schema(path, found, texts)
            _check_texts(path, file, texts)
            num = file.metadata.num_rows
        cuts += [Cut(path, min(rows_per_shard, num - start), start) for start in range(0, num, rows_per_shard)]
    return schema, cuts


def read(cut: Cut, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows in chunks; a row group that begins before them is read from its beginning. InputError for what cannot be decoded."""
    end = cut.start + cut.rows
    with _open(cut.path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = list(accumulate(sizes))
        groups = [g for g, size in enumerate(sizes) if ends[g] > cut.start and ends[g] - size < end]
        first = ends[groups[0]] - sizes[groups[0]] if groups else end
        for row, batch in _batches(cut.path, file.iter_batches(CHUNK, row_groups=groups) if groups else (), first):
            skipped = max(0, cut.start - row)
            wanted = batch.slice(skipped, max(0, min(end, row + len(batch)) - row - skipped))
            if len(wanted):
                yield wanted.cast(schema)


def _open(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}. Check the file.") from error


def _batches(path: str, batches: Iterable[pa.RecordBatch], first: int = 0) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Each with the number of its first row, from `first` on. InputError for one that cannot be decoded."""
    row = first
    try:
        for batch in batches:
            yield row, batch
            row += len(batch)
    except (pa.ArrowException, OSError) as error:
        words = " ".join(str(error).split()).rstrip(".")  # Some come in several lines.
        raise InputError(f"{path}, after row {row}: {words}. Write the file anew.") from error


def _check_schema(path: str, schema: pa.Schema, texts: Sequence[str]) -> None:
    if len(set(schema.names)) < len(schema.names):
        raise InputError(f"{path} has several columns of one name: {schema.names}. Rename them.")
    for name in texts:
        if name not in schema.names:
            raise InputError(f"{path}: there is no column {name!r}; choose one of {schema.names} with --text-column or --pair-column.")
        if not _is_text(schema.field(name).type):
            raise InputError(f"{path}: the column {name!r} must hold texts, and it holds {schema.field(name).type}. Choose another.")


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _check_texts(path: str, file: pq.ParquetFile, texts: Sequence[str]) -> None:
    for row, batch in _batches(path, map(_validated, file.iter_batches(2**16, columns=list(texts)))):
        for name in texts:
            column = batch.column(name)
            if column.null_count:
                null = row + pc.index(pc.is_null(column), True).as_py()
                raise InputError(
                    f"{path}, row {null}: the column {name!r} must hold texts, got null. Leave the row out, or give it a text."
                )


def _validated(batch: pa.RecordBatch) -> pa.RecordBatch:
    for column in batch.columns:  # Of the whole batch it would tell a column's number, for no user.
        column.validate(full=True)
    return batch
