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
_ARE_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)


@contextmanager
def writing(path: Path, scratch: Path, schema: pa.Schema, format: Format) -> Iterator[Write]:
    """A function that writes rows; they are at `path` when the block ends. `scratch` is a folder on the same disk.

    Whoever writes the same rows to the same path, twice or at the same time, leaves the same file. InputError for a value that the
    format cannot hold, and for whatever the disk refuses: no OSError of the block may be about anything else.
    """
    temporary = scratch / f"{path.name}.{secrets.token_hex(4)}"
    with written(path):
        try:
            with _SINKS[format](temporary, schema) as write:
                yield write
            _sync(temporary)
            temporary.rename(path)
        except Exception:  # Not what ends the process: the files that it leaves are its tries.
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def written(path: Path) -> Iterator[None]:
    """InputError where the block cannot write `path`, on a full disk for example."""
    try:
        yield
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}. Free some space, or choose another output.") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_format(schema: pa.Schema, format: Format) -> None:
    """InputError for a column that only Parquet can hold."""
    for field in schema if format != "parquet" else ():
        for kind in _kinds(field.type):
            if any(is_bytes(kind) for is_bytes in _ARE_BYTES):
                raise InputError(f"The column {field.name!r} holds bytes ({field.type}), which a text file cannot; use --format parquet.")
            if pa.types.is_timestamp(kind) and not _is_known(kind):
                raise InputError(f"The column {field.name!r} has the time zone {kind.tz!r}, which is not known here; use --format parquet.")


def _kinds(kind: pa.DataType) -> Iterator[pa.DataType]:
    """The type and those of what it holds."""
    yield kind
    inner = [kind.value_type] if pa.types.is_dictionary(kind) else [kind.field(index).type for index in range(kind.num_fields)]
    for each in inner:
        yield from _kinds(each)


def _is_known(kind: pa.TimestampType) -> bool:
    try:
        pa.scalar(0, kind).as_py()
    except ValueError:
        return False
    return True


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
    return zip(*map(_values, batch.schema.names, batch.columns), strict=True)


def _values(name: str, column: pa.Array) -> list[Any]:
    """InputError for one that Python does not have: bytes that are no UTF-8, a date after the year 9999."""
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"the column {name!r} holds a value that a text file cannot ({error}). Correct it, or use --format parquet."
        ) from error
    return values


_SINKS = {"parquet": _parquet, "jsonl": _jsonl, "csv": _csv}
