"""Values of JSON objects -> typed columns: the kind of each column, found over all rows, and values of that kind."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

_JSON = {b"trtbert": b"json"}
"""Metadata of a column of JSON texts: .jsonl output holds their values, not texts."""
_KINDS = {bool: "bool", int: "int", float: "float", str: "text", type(None): "null"}
_TYPES = {"bool": pa.bool_(), "int": pa.int64(), "long": pa.int64(), "float": pa.float64(), "text": pa.string(), "null": pa.null()}
_WIDER = {frozenset({"int", "long"}): "long", frozenset({"int", "float"}): "float"}
_FLOAT64, _INT64 = 2**53, 2**63

Kinds = dict[str, str]
"""Of each column: bool, int, long (with whole numbers that no float64 holds), float, text, null (so far), or json for all else."""


def note_kinds(kinds: Kinds, row: Mapping[str, Any]) -> None:
    """Widen `kinds` by one row: whole numbers and others make numbers; a null fits everything."""
    for name, value in row.items():
        new, old = _kind(value), kinds.get(name, "null")
        if new != old and new != "null":
            kinds[name] = new if old == "null" else _WIDER.get(frozenset({new, old}), "json")
        else:
            kinds.setdefault(name, old)


def _kind(value: Any) -> str:
    kind = _KINDS.get(type(value), "json")
    if kind != "int" or -_FLOAT64 <= value <= _FLOAT64:
        return kind
    return "long" if -_INT64 <= value < _INT64 else "json"


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
    """As `trtbert predict` writes it; dates and decimals as texts, numbers that JSON does not know (NaN, infinities) as null."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
