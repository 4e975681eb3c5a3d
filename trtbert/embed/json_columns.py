"""Values of JSON objects -> typed columns: the kind of each column, found over all rows, and values of that kind."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

_JSON = {b"trtbert": b"json"}
"""Metadata of a column of JSON texts: .jsonl output holds their values, not texts."""
_KINDS = {bool: "bool", int: "int", float: "float", str: "text", type(None): "null"}
_TYPES = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string(), "null": pa.null()}
_INT64 = 2**63

Kinds = dict[str, str]
"""Of each column: bool, int, float, text, null (so far), or json for objects, lists and mixtures."""


def note_kinds(kinds: Kinds, row: Mapping[str, Any]) -> None:
    """Widen `kinds` by one row: whole numbers and others make numbers; a null fits everything."""
    for name, value in row.items():
        new, old = _kind(value), kinds.get(name, "null")
        if new != old and new != "null":
            kinds[name] = new if old == "null" else "float" if {new, old} == {"int", "float"} else "json"
        else:
            kinds.setdefault(name, old)


def _kind(value: Any) -> str:
    kind = _KINDS.get(type(value), "json")
    return "json" if kind == "int" and not -_INT64 <= value < _INT64 else kind


def schema_of(kinds: Kinds) -> pa.Schema:
    return pa.schema([json_field(name) if kind == "json" else pa.field(name, _TYPES[kind]) for name, kind in kinds.items()])


def json_field(name: str) -> pa.Field:
    """A column of JSON texts."""
    return pa.field(name, pa.string(), metadata=_JSON)


def is_json(field: pa.Field) -> bool:
    return field.metadata is not None and field.metadata.get(b"trtbert") == b"json"


def columns_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """The rows as columns; what a row does not hold is null."""
    arrays = []
    for field in schema:
        values: Iterable[Any] = (row.get(field.name) for row in rows)
        if is_json(field):
            values = (None if value is None else json_text(value) for value in values)
        elif pa.types.is_float64(field.type):
            values = (None if value is None else float(value) for value in values)
        arrays.append(pa.array(list(values), field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def json_text(value: Any) -> str:
    """As `trtbert predict` writes it; dates and decimals as texts."""
    return json.dumps(value, ensure_ascii=False, default=str)
