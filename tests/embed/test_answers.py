"""The answers of every task as columns, beside the columns of the input; the workers run here, without Ray."""

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.embed.conftest import Packages
from tests.embed.rows import make_rows, read_rows, write_rows
from tests.numerics import assert_close
from trtbert.embed import run
from trtbert.embed.config import EmbedConfig
from trtbert.embed.run import embed
from trtbert.embed.shards import Shard
from trtbert.embed.worker import Done, Work, Worker
from trtbert.errors import InputError
from trtbert.predictor import load
from trtbert.tasks import Task


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(shards: Sequence[Shard], work: Work, num_workers: int, *, has_gpu: bool) -> Iterator[Done]:
        worker = Worker(work)
        return (worker.run(shard) for shard in reversed(shards))

    monkeypatch.setattr(run, "connected", lambda config: nullcontext())
    monkeypatch.setattr(run, "count_workers", lambda config, *, has_gpu, num_shards: 1)
    monkeypatch.setattr(run, "compute", compute)


INPUTS: dict[Task, list[dict[str, str]]] = {
    "text-classification": make_rows(60),
    "token-classification": make_rows(60),
    "feature-extraction": make_rows(60),
    "fill-mask": [{"text": f"{row['text']} [MASK]"} for row in make_rows(60)],
    "text-ranking": [{"text": row["text"], "text_pair": f"w{i % 9} w3"} for i, row in enumerate(make_rows(60))],
    "question-answering": [{"question": f"w{i % 9}", "context": row["text"]} for i, row in enumerate(make_rows(60))],
}


@pytest.mark.parametrize("task", INPUTS)
def test_tasks(task: Task, package: Packages, tmp_path: Path) -> None:
    rows = INPUTS[task]
    source = write_rows(tmp_path / "in.parquet", rows)
    embed([str(source)], tmp_path / "out", EmbedConfig(package=package(task), rows_per_file=25))
    found = read_rows(tmp_path / "out")
    texts = [row["text"] for row in rows] if task not in ("text-ranking", "question-answering") else [tuple(row.values()) for row in rows]
    expected = load(package(task)).predict(texts)
    assert [{name: row[name] for name in rows[0]} for row in found] == rows
    if task == "text-classification":
        assert [row["label"] for row in found] == [answer["label"] for answer in expected]
        assert_close(np.array([row["score"] for row in found]), np.array([answer["score"] for answer in expected]))
    elif task == "text-ranking":
        assert_close(np.array([row["score"] for row in found]), expected)
    else:
        assert [_rounded(json.loads(row["answer"])) for row in found] == [_rounded(answer) for answer in expected]


def _rounded(value: Any) -> Any:
    """Numbers to 4 digits: a batch of another shape may change the last bits."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, np.ndarray)):
        return [_rounded(item) for item in value]
    return round(float(value), 3) if isinstance(value, (float, np.floating)) else value


def test_answers_that_are_json_stay_json(package: Packages, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", [{"text": "w1 w2", "meta": {"a": [1]}, "n": 1}, {"text": "w3", "meta": "x", "n": 2.5}])
    config = EmbedConfig(package=package("token-classification"), format="jsonl", prefix="model_")
    embed([str(source)], tmp_path / "out", config)
    first, second = read_rows(tmp_path / "out")
    assert list(first) == ["text", "meta", "n", "model_answer"]
    assert (first["meta"], second["meta"], first["n"], second["n"]) == ({"a": [1]}, "x", 1.0, 2.5)
    assert isinstance(first["model_answer"], list)


def test_pairs_of_a_classifier_and_other_columns(package: Packages, tmp_path: Path) -> None:
    rows = [{"premise": row["text"], "hypothesis": "w1 w2", "label": "gold"} for row in make_rows(30)]
    source = write_rows(tmp_path / "in.csv", rows)
    task: Task = "text-classification"
    config = EmbedConfig(package=package(task), text_column="premise", pair_column="hypothesis", prefix="model_")
    with pytest.raises(InputError, match="has a column 'label' already"):
        embed([str(source)], tmp_path / "out", config.model_copy(update={"prefix": ""}))
    embed([str(source)], tmp_path / "out", config)
    found = read_rows(tmp_path / "out")
    expected = load(package(task)).predict([(row["premise"], row["hypothesis"]) for row in rows])
    assert [row["model_label"] for row in found] == [answer["label"] for answer in expected]
    assert [row["label"] for row in found] == ["gold"] * 30


@pytest.mark.parametrize("name", ["in.parquet", "in.jsonl", "in.csv"])
def test_no_rows_make_a_file_of_no_rows(name: str, package: Packages, tmp_path: Path) -> None:
    source = tmp_path / name
    if name == "in.parquet":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), source)
    else:
        source.write_text("" if name == "in.jsonl" else "text\n")
    summary = embed([str(source)], tmp_path / "out", EmbedConfig(package=package("sentence-similarity"), cost_per_hour=1))
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert table.num_rows == 0 and "embedding" in table.schema.names
    assert (summary["rows"], summary["tokens"], summary["cost_per_million_rows"]) == (0, 0, None)


def test_types_and_metadata_of_parquet_are_kept(package: Packages, tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["w1", "w2 w3", "w4"]).dictionary_encode(),
            "when": pa.array([1, None, 3], pa.timestamp("ns", tz="UTC")),
            "tags": pa.array([["a"], [], None]),
            "bytes": pa.array([b"\x00", None, b"\xff"]),
        }
    ).replace_schema_metadata({"made": "here"})
    pq.write_table(table, tmp_path / "in.parquet")
    config = EmbedConfig(package=package("sentence-similarity"))
    embed([str(tmp_path / "in.parquet")], tmp_path / "out", config)
    found = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert found.select(table.schema.names).equals(table)
    assert (found.schema.metadata or {})[b"made"] == b"here"
    assert pa.types.is_float32(found.schema.field("embedding").type.value_type)
    for column in (table.column("bytes"), table.column("bytes").dictionary_encode()):
        pq.write_table(table.set_column(3, "bytes", column), tmp_path / "in.parquet")
        with pytest.raises(InputError, match="'bytes' holds bytes"):
            embed([str(tmp_path / "in.parquet")], tmp_path / "other", config.model_copy(update={"format": "jsonl"}))


def test_a_worker_opens_its_package_once(package: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def counted(path: Path, *, threads: int) -> Any:
        opened.append(path)
        return load(path, threads=threads)

    monkeypatch.setattr("trtbert.embed.worker.load", counted)
    source = write_rows(tmp_path / "in.csv", make_rows(90))
    summary = embed([str(source)], tmp_path / "out", EmbedConfig(package=package("sentence-similarity"), rows_per_file=10))
    assert len(summary["files"]) == 9 and len(opened) == 1
    assert read_rows(tmp_path / "out")[89]["id"] == "89"


@pytest.mark.parametrize("rows_per_file", [1, 99, 100, 101, 1000])
def test_shards_that_end_anywhere_in_row_groups(rows_per_file: int, package: Packages, tmp_path: Path) -> None:
    rows = make_rows(230)
    source = write_rows(tmp_path / "in.parquet", rows, row_group=100)
    summary = embed([str(source)], tmp_path / "out", EmbedConfig(package=package("sentence-similarity"), rows_per_file=rows_per_file))
    assert len(summary["files"]) == -(-230 // rows_per_file)
    assert [row["text"] for row in read_rows(tmp_path / "out")] == [row["text"] for row in rows]


def test_lines_that_hold_line_feeds_and_blank_lines(package: Packages, tmp_path: Path) -> None:
    config = EmbedConfig(package=package("sentence-similarity"), rows_per_file=1)
    (tmp_path / "in.csv").write_text('\ufefftext,n\n"w1\nw2",007\n\n"w3 ""q""",\n,\n', encoding="utf-8")
    embed([str(tmp_path / "in.csv")], tmp_path / "csv", config)
    assert [(row["text"], row["n"]) for row in read_rows(tmp_path / "csv")] == [("w1\nw2", "007"), ('w3 "q"', ""), ("", "")]
    (tmp_path / "in.jsonl").write_text(
        '\ufeff{"text": "é"}\r\n\n  \n{"text": "\\ud83d\\ude00", "big": 9223372036854775808}', encoding="utf-8"
    )
    embed([str(tmp_path / "in.jsonl")], tmp_path / "jsonl", config.model_copy(update={"format": "jsonl"}))
    assert [(row["text"], row["big"]) for row in read_rows(tmp_path / "jsonl")] == [("é", None), ("😀", 2**63)]
