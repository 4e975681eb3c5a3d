"""Record batches -> a file that is there whole or not at all."""

import csv
import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trtbert.embed.config import Format
from trtbert.embed.json_columns import is_json, json_text
from trtbert.errors import InputError

Write = Callable[[pa.RecordBatch], None]


@contextmanager
def writing(path: Path, scratch: Path, schema: pa.Schema, format: Format) -> Iterator[Write]:
    """A function that writes rows; they are at `path` when the block ends. `scratch` is a folder on the same disk.

    Whoever writes the same rows to the same path, twice or at the same time, leaves the same file.
    """
    temporary = scratch / f"{path.name}.{secrets.token_hex(4)}"
    with _SINKS[format](temporary, schema) as write:
        yield write
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)


def check_format(schema: pa.Schema, format: Format) -> None:
    """InputError for a column that only Parquet can hold."""
    for field in schema:
        if format != "parquet" and _holds_bytes(field.type):
            raise InputError(f"The column {field.name!r} holds bytes ({field.type}), which a text file cannot; use --format parquet.")


def _holds_bytes(kind: pa.DataType) -> bool:
    is_bytes = any(
        test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    )
    return is_bytes or any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))


@contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[Write]:
    with pq.ParquetWriter(path, schema) as writer:
        yield writer.write_batch


@contextmanager
def _jsonl(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """Objects; what came as JSON, and answers that are JSON, stay what they are."""
    keys = [json.dumps(name, ensure_ascii=False) for name in schema.names]
    are_json = [is_json(field) for field in schema]

    def line(values: Sequence[Any]) -> str:
        texts = (value if is_raw and value is not None else json_text(value) for value, is_raw in zip(values, are_json, strict=True))
        return "{" + ", ".join(f"{key}: {text}" for key, text in zip(keys, texts, strict=True)) + "}\n"

    with path.open("w", encoding="utf-8", newline="\n") as stream:
        yield lambda batch: stream.writelines(map(line, _rows(batch)))


@contextmanager
def _csv(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """Texts as they are, a null as nothing, all else as JSON."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(schema.names)
        yield lambda batch: writer.writerows([_csv_text(value) for value in row] for row in _rows(batch))


def _csv_text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json_text(value)


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


_SINKS = {"parquet": _parquet, "jsonl": _jsonl, "csv": _csv}
