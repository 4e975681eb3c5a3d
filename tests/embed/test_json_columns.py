"""Columns of .jsonl: their kinds over all rows, and values that come out as they went in."""

import json
from typing import Any

import pyarrow as pa
import pytest

from trtbert.embed.json_columns import columns_of, json_text, note_kinds, schema_of

BIG = 2**53 + 1
COLUMNS: dict[str, tuple[list[Any], pa.DataType, list[Any]]] = {
    "whole numbers": ([1, BIG, None], pa.int64(), [1, BIG, None]),
    "numbers": ([1, 1.5], pa.float64(), [1.0, 1.5]),
    "numbers, one too long for a float": ([1, 1.5, BIG], pa.string(), ["1", "1.5", str(BIG)]),
    "the long one first": ([BIG, 1, 1.5], pa.string(), [str(BIG), "1", "1.5"]),
    "too long for 64 bits": ([2**64], pa.string(), [str(2**64)]),
    "mixed": ([True, 1, "a", [None]], pa.string(), ["true", "1", '"a"', "[null]"]),
    "nothing": ([None], pa.null(), [None]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns(name: str) -> None:
    values, kind, expected = COLUMNS[name]
    kinds: dict[str, str] = {}
    for value in values:
        note_kinds(kinds, {"a": value})
    schema = schema_of(kinds)
    assert schema.field("a").type == kind
    assert columns_of([{"a": value} for value in values], schema).column("a").to_pylist() == expected


def test_texts_are_json_for_every_reader() -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    values = {"a": [1.5, float("nan"), {"b": float("-inf")}], "c": "NaN"}
    assert json.loads(json_text(values), parse_constant=refuse) == {"a": [1.5, None, {"b": None}], "c": "NaN"}
    assert json_text(float("nan")) == "null"
