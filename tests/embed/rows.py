"""Rows in files of every format, and the rows of an output folder."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]


def make_rows(num: int, start: int = 0) -> list[Row]:
    """Texts of 1 to 23 words, no two neighbours of one length."""
    return [{"id": str(i), "text": " ".join(f"w{(i * 7 + k) % 40}" for k in range(1 + i * 5 % 23))} for i in range(start, start + num)]


def write_rows(path: Path, rows: Sequence[Row], *, row_group: int = 100) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=row_group)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def read_rows(output: Path) -> list[Row]:
    """The rows of the files in the order of their names."""
    rows: list[Row] = []
    for path in sorted(output.glob("part-*")):
        if path.suffix == ".parquet":
            rows += pq.read_table(path).to_pylist()
        elif path.suffix == ".jsonl":
            rows += [json.loads(line) for line in path.read_text().splitlines()]
        else:
            with path.open(newline="") as stream:
                rows += list(csv.DictReader(stream))
    return rows
