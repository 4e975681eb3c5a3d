"""What is found on the way: one message for a row that cannot be read or written, and no half-written file; without Ray."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.embed.conftest import Packages
from tests.embed.rows import make_rows, write_rows
from trtbert.embed import unfinished
from trtbert.embed.config import EmbedConfig, Format
from trtbert.embed.inputs import find_inputs
from trtbert.embed.plan import Plan, identify, make_plan
from trtbert.embed.worker import Done, Work, Worker
from trtbert.errors import InputError
from trtbert.package import open_package


def planned(source: Path, package: Path, output_format: Format = "parquet") -> Plan:
    config = EmbedConfig(package=package, format=output_format)
    opened = open_package(package)
    return make_plan(identify(find_inputs([str(source)], source.with_name("out")), opened, config), opened, config)


def run(source: Path, package: Path, output_format: Format = "parquet") -> dict[str, Any]:
    """What a worker sends back for the first shard. No file is left of one that failed."""
    plan, scratch = planned(source, package, output_format), source.with_name("scratch")
    scratch.mkdir(exist_ok=True)
    work = Work(
        package=package,
        digest=plan.identity.package,
        threads=1,
        texts=plan.texts,
        schema=plan.schema,
        answers=plan.answers,
        output_schema=plan.output_schema,
        format=output_format,
        folder=source.parent,
        scratch=scratch,
    )
    (result,) = Worker(work)({"shard": [json.dumps(asdict(plan.shards[0]))]})["result"]
    found: dict[str, Any] = json.loads(result)
    assert list(scratch.iterdir()) == []
    assert (source.parent / plan.shards[0].name).exists() == ("rows" in found)
    return found


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """No file of this process may be longer; the system refuses it as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


NOT_UTF8 = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
VALUES = {
    "not UTF-8": (NOT_UTF8, "can't decode byte 0xff"),
    "not UTF-8 in a list": (pa.ListArray.from_arrays([0, 1], NOT_UTF8), "can't decode byte 0xff"),
    "a time after the year 9999": (pa.array([2**62], pa.timestamp("us")), "date value out of range"),
    "a date after the year 9999": (pa.array([2**30], pa.date32()), "days=1073741824"),
}


@pytest.mark.parametrize("output_format", ["jsonl", "csv"])
@pytest.mark.parametrize("name", VALUES)
def test_values_that_text_files_cannot_hold(name: str, output_format: Format, package: Packages, tmp_path: Path) -> None:
    column, words = VALUES[name]
    source, embedder = tmp_path / "in.parquet", package("sentence-similarity")
    pq.write_table(pa.table({"text": ["w1"], "other": column}), source)
    found = run(source, embedder, output_format)
    assert found["kind"] == "InputError" and "--format parquet" in found["message"] and words in found["message"]
    assert f"{source}, rows 0 to 0 of part-00000.{output_format}: the column 'other' holds" in found["message"]
    assert run(source, embedder)["rows"] == 1
    assert pq.read_table(tmp_path / "part-00000.parquet").column("other").combine_chunks().equals(column)


def test_a_damaged_page_of_another_column(package: Packages, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    table = pa.table({"text": ["w1"] * 200, "other": np.arange(200.0)})
    pq.write_table(table, source, row_group_size=100, use_dictionary=False)
    damaged = bytearray(source.read_bytes())
    start = pq.read_metadata(source).row_group(1).column(1).data_page_offset
    damaged[start : start + 100] = b"\xff" * 100
    source.write_bytes(damaged)
    found = run(source, package("sentence-similarity"))
    assert found["kind"] == "InputError" and found["message"].startswith(f"{source}, after row ")
    assert "\n" not in found["message"] and found["message"].endswith(". Write the file anew.")


@pytest.mark.parametrize("output_format", ["parquet", "jsonl", "csv"])
def test_a_full_disk(output_format: Format, package: Packages, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.parquet", make_rows(200))
    with full_disk(5000):
        found = run(source, package("sentence-similarity"), output_format)
    assert found["kind"] == "InputError" and "File too large" in found["message"] and "Free some space" in found["message"]
    assert found["message"].startswith(f"Cannot write {tmp_path / 'part-00000'}.{output_format}: ")


def test_a_full_disk_that_holds_the_folder_of_the_run(package: Packages, tmp_path: Path) -> None:
    plan = planned(write_rows(tmp_path / "in.csv", make_rows(2)), package("sentence-similarity"))
    full = pytest.raises(InputError, match=r"Cannot write .*/_PLAN\.json: File too large")
    with full, unfinished.opened(tmp_path / "out") as folder, full_disk(100):
        unfinished.save(folder, plan)
    assert not (tmp_path / "out.partial").exists()
    with unfinished.opened(tmp_path / "out") as folder:
        unfinished.save(folder, plan)
        folder.prepare()
        with full_disk(100), pytest.raises(InputError, match=r"Cannot write .*/_JOURNAL\.jsonl: File too large"):
            folder.note(Done("part-00000.parquet", 2, 9, 300, 0.1), 1)
        with full_disk(100), pytest.raises(InputError, match=r"Cannot write .*/_SUCCESS\.json: File too large"):
            folder.finish({"rows": 2, "inputs": "a" * 100}, tmp_path / "out")
    with unfinished.opened(tmp_path / "out") as folder:
        assert (tmp_path / "out.partial" / "_JOURNAL.jsonl").stat().st_size == 100  # The line that was cut off.
        with full_disk(50):
            assert unfinished.resume(folder, plan.identity, force=False) == plan and folder.done == {}
        assert (tmp_path / "out.partial" / "_JOURNAL.jsonl").read_text() == ""
