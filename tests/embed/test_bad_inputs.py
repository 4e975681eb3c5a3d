"""What cannot be used is refused before any work: exit code, message, and nothing left behind."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.embed.conftest import Packages
from tests.embed.rows import make_rows, write_rows
from trtbert.cli import main

Output = pytest.CaptureFixture[str]


def refusal(capsys: Output, folder: Path, package: Path, *arguments: object, code: int = 2) -> str:
    """The message of a command that ran in `folder`, which holds what it held."""
    before = sorted(folder.rglob("*"))
    capsys.readouterr()  # What making the package printed.
    assert main(["embed", "-o", str(folder / "out"), "--package", str(package), *map(str, arguments)]) == code
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and "Traceback" not in captured.err
    assert sorted(folder.rglob("*")) == before
    return captured.err


TEXTS = {
    "no file": ("in.jsonl", None, "in.jsonl does not exist, and as a pattern fits no file"),
    "another suffix": ("in.txt", b"w1\n", "must end in one of .csv, .jsonl, .parquet"),
    "malformed JSON": ("in.jsonl", b'{"text": "w1"}\n{"text": "w2"\n', "in.jsonl, line 2: this is not valid JSON"),
    "no object": ("in.jsonl", b'"w1"\n', 'in.jsonl, line 1: there must be an object, such as {"text": "..."}, got a str'),
    "no column in JSON": ("in.jsonl", b'{"text": "w1"}\n\n{"body": "w2"}\n', "line 3: there is no column 'text'; choose one of ['body']"),
    "null": ("in.jsonl", b'{"text": null}\n', "line 1: the column 'text' must hold texts, got null"),
    "a number": ("in.jsonl", b'{"text": 7}\n', "line 1: the column 'text' must hold texts, got 7 (int)"),
    "half a character": ("in.jsonl", b'{"text": "\\ud800"}\n', "line 1: a text is not valid Unicode"),
    "not UTF-8": ("in.jsonl", b'{"text": "w1"}\n{"text": "\xff"}\n', "line 2: byte 10 is 0xff, which is no UTF-8"),
    "a NUL byte": ("in.csv", b"text\nw1\0\n", "line 2: there is a NUL byte"),
    "no header": ("in.csv", b"", "in.csv has no header"),
    "no column in CSV": ("in.csv", b"body,n\nw1,2\n", "there is no column 'text'; choose one of ['body', 'n']"),
    "two columns of a name": ("in.csv", b"text,text\nw1,2\n", "several columns of one name"),
    "a comma too many": ("in.csv", b'text,n\n"a\nb",1\nw1,w2,3\n', "in.csv, line 4: there must be 2 columns as in the header, got 3"),
    "a quote": ("in.csv", b'text\n"w1\n', "in.csv, line 2: unexpected end of data"),
    "no Parquet": ("in.parquet", b"PAR1 is not enough", "in.parquet cannot be read as Parquet"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_files(name: str, package: Packages, tmp_path: Path, capsys: Output) -> None:
    file, content, words = TEXTS[name]
    if content is not None:
        (tmp_path / file).write_bytes(content)
    assert words in refusal(capsys, tmp_path, package("sentence-similarity"), tmp_path / file)


TABLES: dict[str, tuple[Any, str]] = {
    "null": (["w1"] * 70 + [None], "in.parquet, row 70: the column 'text' must hold texts, got null"),
    "numbers": ([1, 2], "the column 'text' must hold texts, and it holds int64"),
    "lists": ([["w1"]], "the column 'text' must hold texts, and it holds list"),
}


@pytest.mark.parametrize("name", TABLES)
def test_parquet(name: str, package: Packages, tmp_path: Path, capsys: Output) -> None:
    values, words = TABLES[name]
    pq.write_table(pa.table({"text": values}), tmp_path / "in.parquet", row_group_size=50)
    assert words in refusal(capsys, tmp_path, package("sentence-similarity"), tmp_path / "in.parquet")


def test_parquet_that_is_not_utf8(package: Packages, tmp_path: Path, capsys: Output) -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    pq.write_table(pa.table({"text": broken}), tmp_path / "in.parquet")
    assert "after row 0: Invalid UTF8" in refusal(capsys, tmp_path, package("sentence-similarity"), tmp_path / "in.parquet")


def test_a_time_zone_that_text_files_need(package: Packages, tmp_path: Path, capsys: Output) -> None:
    pq.write_table(pa.table({"text": ["w1"], "when": pa.array([[1]], pa.list_(pa.timestamp("us", "Foo/Bar")))}), tmp_path / "in.parquet")
    words = refusal(capsys, tmp_path, package("sentence-similarity"), tmp_path / "in.parquet", "--format", "jsonl")
    assert "The column 'when' has the time zone 'Foo/Bar'" in words and "use --format parquet" in words


def test_files_that_do_not_go_together(package: Packages, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "in").mkdir()
    a, _, c = (write_rows(tmp_path / "in" / name, make_rows(2)) for name in ("a.csv", "b.jsonl", "c.parquet"))
    embedder = package("sentence-similarity")
    assert "several formats, .csv and .jsonl and .parquet" in refusal(capsys, tmp_path, embedder, tmp_path / "in")
    assert "a.csv is given twice" in refusal(capsys, tmp_path, embedder, a, tmp_path / "in" / "*.csv")
    write_rows(tmp_path / "in" / "d.csv", [{"text": "w1", "n": "1"}])
    assert "d.csv has the columns ['text', 'n'], and the file before it" in refusal(capsys, tmp_path, embedder, tmp_path / "in" / "*.csv")
    write_rows(tmp_path / "d.parquet", [{"text": "w1", "n": 1}])
    assert "d.parquet has other columns" in refusal(capsys, tmp_path, embedder, c, tmp_path / "d.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "_part.csv").write_text("text\n")
    assert "holds no file that ends in" in refusal(capsys, tmp_path, embedder, tmp_path / "empty")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "pipe.csv is no plain file" in refusal(capsys, tmp_path, embedder, tmp_path / "pipe.csv")


def test_outputs(package: Packages, tmp_path: Path, capsys: Output) -> None:
    embedder = package("sentence-similarity")
    (tmp_path / "in").mkdir()
    source = write_rows(tmp_path / "in" / "a.csv", make_rows(2))
    assert "lies in the input folder" in refusal(capsys, tmp_path, embedder, tmp_path / "in", "-o", tmp_path / "in" / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert "exists already" in refusal(capsys, tmp_path, embedder, source)
    assert "was not made by trtbert" in refusal(capsys, tmp_path, embedder, source, "--force")
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "mine").touch()
    words = refusal(capsys, tmp_path, embedder, source, "-o", tmp_path / "other", "--force")
    assert "other.partial was not made by trtbert and is in the way" in words
    assert "does not exist. Create it first" in refusal(capsys, tmp_path, embedder, source, "-o", tmp_path / "no" / "out")


def test_options(package: Packages, tmp_path: Path, capsys: Output) -> None:
    embedder = package("sentence-similarity")
    source = write_rows(tmp_path / "a.csv", make_rows(2))
    assert "there is no column 'txt'" in refusal(capsys, tmp_path, embedder, source, "--text-column", "txt")
    assert "sentence-similarity reads single texts: leave --pair-column id out" in refusal(
        capsys, tmp_path, embedder, source, "--pair-column", "id"
    )
    both = refusal(capsys, tmp_path, package("text-ranking"), source, "--pair-column", "text")
    assert "cannot both be in the column 'text'" in both
    problems = refusal(capsys, tmp_path, embedder, source, "--workers", "0", "--cost-per-hour", "-1")
    assert "  --workers: " in problems and "  --cost-per-hour: " in problems
    assert "run it on a machine of the cluster: --address auto" in refusal(
        capsys, tmp_path, embedder, source, "--address", "ray://head:10001"
    )


def test_an_address_where_nothing_is(package: Packages, tmp_path: Path, capsys: Output) -> None:
    """Looked at once the inputs are known to be right; the plan stays, for the same command with another address."""
    source = write_rows(tmp_path / "a.csv", make_rows(2))
    arguments = ["embed", str(source), "-o", str(tmp_path / "out"), "--package", str(package("sentence-similarity"))]
    assert main([*arguments, "--address", "127.0.0.1:9"]) == 2
    assert "No Ray cluster can be used at 127.0.0.1:9" in capsys.readouterr().err


def test_packages(package: Packages, tmp_path: Path, capsys: Output) -> None:
    source = write_rows(tmp_path / "a.csv", make_rows(2))
    assert "is no package" in refusal(capsys, tmp_path, tmp_path / "none", source)
    altered = tmp_path / "altered"
    altered.mkdir()
    for file in package("sentence-similarity").iterdir():
        (altered / file.name).write_bytes(file.read_bytes() + (b" " if file.name == "tokenizer.json" else b""))
    assert "'tokenizer.json' in" in refusal(capsys, tmp_path, altered, source)


@pytest.mark.parametrize("missing", ["ray", "pyarrow"])
def test_a_missing_library_names_its_extra(
    missing: str, package: Packages, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    source = write_rows(tmp_path / "a.csv", make_rows(2))
    words = refusal(capsys, tmp_path, package("sentence-similarity"), source, code=5)
    assert f"needs '{missing}'" in words and "pip install 'trtbert[ray]'" in words


def test_a_run_in_progress_is_left_alone(package: Packages, tmp_path: Path, capsys: Output) -> None:
    import fcntl

    source = write_rows(tmp_path / "a.csv", make_rows(2))
    (tmp_path / "out.partial").mkdir()
    lock = os.open(tmp_path / "out.partial", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        assert "Another process writes in" in refusal(capsys, tmp_path, package("sentence-similarity"), source)
    finally:
        os.close(lock)


def test_an_unfinished_run_of_something_else(package: Packages, tmp_path: Path, capsys: Output) -> None:
    """The plan alone says what the run was."""
    from trtbert.embed import unfinished
    from trtbert.embed.config import EmbedConfig
    from trtbert.embed.inputs import find_inputs
    from trtbert.embed.plan import identify, make_plan
    from trtbert.package import open_package

    embedder = package("sentence-similarity")
    source = write_rows(tmp_path / "a.csv", make_rows(2))
    identity = identify(find_inputs([str(source)], tmp_path / "out"), open_package(embedder), EmbedConfig(package=embedder))
    with unfinished.opened(tmp_path / "out") as folder:
        unfinished.save(folder, make_plan(identity, open_package(embedder), EmbedConfig(package=embedder)))
    words = refusal(capsys, tmp_path, embedder, source, "--format", "csv", "--text-column", "id")
    assert "text columns was ['text'] and is ['id']; format was 'parquet' and is 'csv'" in words and "--force" in words
    assert "the package is another" in refusal(capsys, tmp_path, package("token-classification"), source)
    other = write_rows(tmp_path / "b.csv", make_rows(2))
    words = refusal(capsys, tmp_path, embedder, other)
    assert f"{other} is new; {source} is missing" in words
    write_rows(source, make_rows(3))
    assert f"{source} changed" in refusal(capsys, tmp_path, embedder, source)
    (tmp_path / "out.partial" / "_PLAN.json").write_text(json.dumps({"identity": {}}))
    assert "its plan cannot be read" in refusal(capsys, tmp_path, embedder, source)
