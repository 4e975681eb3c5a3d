"""On Ray: every row with the offline predictor's answer, in order, and the errors of workers."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.embed.conftest import Packages
from tests.embed.rows import make_rows, read_rows, write_rows
from tests.numerics import assert_close
from trtbert.cli import main
from trtbert.embed import cluster
from trtbert.embed.cluster import connected
from trtbert.embed.config import EmbedConfig
from trtbert.embed.run import embed
from trtbert.embed.worker import Worker
from trtbert.errors import UnsupportedError
from trtbert.predictor import load

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _ray(package: Packages) -> Iterator[None]:
    with connected(EmbedConfig(package=package("sentence-similarity"), workers=2)):
        yield


@pytest.mark.parametrize(("suffix", "output_format"), [(".parquet", "csv"), (".jsonl", "parquet"), (".csv", "jsonl")])
def test_formats(suffix: str, output_format: str, package: Packages, tmp_path: Path) -> None:
    rows = make_rows(550)
    (tmp_path / "in").mkdir()
    write_rows(tmp_path / "in" / f"a{suffix}", rows[:430])
    write_rows(tmp_path / "in" / f"b{suffix}", rows[430:])
    config = EmbedConfig(package=package("sentence-similarity"), rows_per_file=150, format=output_format)
    summary = embed([str(tmp_path / "in")], tmp_path / "out", config)
    found = read_rows(tmp_path / "out")
    assert [{"id": row["id"], "text": row["text"]} for row in found] == rows
    vectors = np.array([json.loads(row["embedding"]) if output_format == "csv" else row["embedding"] for row in found], np.float32)
    assert_close(vectors, load(config.package).encode([row["text"] for row in rows]))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "_SUCCESS.json",
        *(f"part-{index:05}.{output_format}" for index in range(4)),  # 150, 150, 130, 120
    ]
    assert [file["rows"] for file in summary["files"]] == [150, 150, 130, 120]
    assert json.loads((tmp_path / "out" / "_SUCCESS.json").read_text()) == summary
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_what_a_worker_cannot_answer(package: Packages, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": "w1 [MASK]"}] * 40 + [{"text": "w1 w2"}]
    source = write_rows(tmp_path / "in.jsonl", rows)
    arguments = ["embed", str(source), "-o", str(tmp_path / "out"), "--package", str(package("fill-mask")), "--rows-per-file", "20"]
    capsys.readouterr()  # What making the package printed.
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ")
    assert f"{source}, rows 0 to 0 of part-00002.parquet" in captured.err and "has no [MASK]" in captured.err
    assert not (tmp_path / "out").exists() and (tmp_path / "out.partial").is_dir()


class _Dies(Worker):
    max_tries = 2

    def _answer(self, batch: pa.RecordBatch) -> tuple[list[pa.Array], int]:
        if batch.column("id")[0].as_py() == "20":
            with (self._work.scratch.parent / "deaths").open("a") as file:
                file.write("x")
            os._exit(1)
        return super()._answer(batch)


def test_rows_that_end_every_worker_end_the_run(package: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "Worker", _Dies)
    source = write_rows(tmp_path / "in.jsonl", make_rows(60))
    config = EmbedConfig(package=package("sentence-similarity"), rows_per_file=20, workers=1)
    with pytest.raises(UnsupportedError, match=r"2 workers died over the rows of part-00001\.parquet"):
        embed([str(source)], tmp_path / "out", config)
    assert len((tmp_path / "out.partial" / "deaths").read_text()) == 2
    monkeypatch.undo()
    assert embed([str(source)], tmp_path / "out", config)["rows"] == 60


def test_the_command_prints_its_figures(package: Packages, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_rows(tmp_path / "in.csv", make_rows(100))
    arguments = [
        "embed",
        str(source),
        "-o",
        str(tmp_path / "out"),
        "--package",
        str(package("sentence-similarity")),
        "--cost-per-hour",
        "2",
    ]
    assert main([*arguments, "--workers", "1"]) == 0
    summary = json.loads((tmp_path / "out" / "_SUCCESS.json").read_text())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"100 rows, {summary['tokens']} tokens, 1 files"
    assert lines[2].startswith("cost ") and lines[3] == f"wrote {tmp_path / 'out'}"
    assert summary["cost"] == pytest.approx(summary["worker_seconds"] / 3600 * 2, abs=1e-5)
    assert summary["cost_per_million_rows"] == pytest.approx(summary["cost"] * 1e4)
    assert summary["rows_per_second"] == pytest.approx(100 / summary["wall_seconds"], abs=0.1)
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0
    assert len(read_rows(tmp_path / "out")) == 100
