"""INT8 on the command line: calibration data of every bad kind, options that do not fit, and an interruption."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models import make_checkpoint
from tests.sources import make_source
from trtbert.cli import main
from trtbert.config import CompileConfig
from trtbert.errors import InputError
from trtbert.package import open_package
from trtbert.pipeline import resolve

Output = pytest.CaptureFixture[str]
Arguments = Callable[..., list[str]]


def words(num: int, *, longest: int = 20) -> list[str]:
    """Different texts of words that the model knows."""
    rng = random.Random(0)
    return [" ".join([f"w{index % 54}", *(f"w{rng.randrange(54)}" for _ in range(2 + index % (longest - 2)))]) for index in range(num)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_source(tmp_path_factory.mktemp("source"))


@pytest.fixture
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for calibration data, apart from the one of the package."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def arguments(source: tuple[Path, Path], tmp_path: Path) -> Arguments:
    """Of a compilation into the empty folder `tmp_path`."""
    known = ["compile", str(source[0]), "--tokenizer", str(source[1]), "-o", str(tmp_path / "package"), "--runtime", "onnxruntime"]

    def make(*options: object) -> list[str]:
        return [*known, *map(str, options)]

    return make


def failure(capsys: Output, arguments: list[str]) -> tuple[int, str]:
    """The exit code and the one message of a command that prints nothing else and shows no traceback."""
    code = main(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("error: ") == 1 and "Traceback" not in captured.err
    return code, captured.err


TEXTS = "\n".join(words(40))
BAD: dict[str, tuple[str, bytes, list[str], list[str]]] = {
    "empty": ("a.txt", b"", [], ["a.txt holds no text; give a file with at least one"]),
    "blank lines": ("a.txt", b"\n \n\t\n", [], ["a.txt holds no text"]),
    "a header only": ("a.csv", b"text,label\n", [], ["a.csv holds no text"]),
    "one text": ("a.txt", b"w1 w2 w3\n", [], ["a.txt holds 1 different text,", "at least 16", "leave --calibration-data out"]),
    "one text many times": ("a.txt", b"w1 w2 w3\n" * 900, [], ["a.txt holds 1 different text,"]),
    "no such column": (
        "a.csv",
        f"text,label,notes\n{''.join(f'{text},1,b{chr(10)}' for text in words(40))}".encode(),
        ["--text-column", "body"],
        ["a.csv, line 2: there is no column 'body'; choose one of ['text', 'label', 'notes']"],
    ),
    "no known column": (
        "a.tsv",
        b"colour\tsize\nred\t3\n",
        [],
        ["a.tsv, line 2: none of the columns ['colour', 'size'] is known", "or name it"],
    ),
    "a column of numbers": ("a.jsonl", b'{"text": 7}\n', [], ["a.jsonl, line 1: a text must be a string, got 7 (int)"]),
    "columns that differ": ("a.csv", b"text,label\nw1,w2,w3\n", [], ["a.csv, line 2: there must be 2 columns as in the header, got 3"]),
    "binary": ("a.txt", bytes(range(256)) * 9, [], ["a.txt, line 1: there is a NUL byte", "Save the file as UTF-8"]),
    "Latin-1": ("a.txt", f"{TEXTS}\ncaf\xe9\n".encode("latin-1"), [], ["a.txt, line 41: byte 3 is 0xe9, which is no UTF-8"]),
    "a NUL byte late": ("a.txt", f"{TEXTS}\nw1 \0 w2\n".encode(), [], ["a.txt, line 41: there is a NUL byte"]),
    "malformed JSON": ("a.jsonl", b'{"text": "w1"}\n\n{"text": \n', [], ["a.jsonl, line 3: this is not valid JSON"]),
    "a quote that does not end": ("a.csv", f'text\n"{TEXTS}'.encode(), [], ["unexpected end of data. Check the quotes"]),
    "another ending": ("a.parquet", b"PAR1", [], ["a.parquet must end in one of .conll, .csv, .json, .jsonl, .tsv, .txt"]),
    "another script": (
        "a.txt",
        "\n".join(f"поезд номер {hour} отправляется в полдень" for hour in range(40)).encode(),
        [],
        ["does not know 100% of the words in", "another language or script"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_calibration_data(name: str, data: Path, arguments: Arguments, tmp_path: Path, capsys: Output) -> None:
    file, content, options, words = BAD[name]
    (data / file).write_bytes(content)
    code, message = failure(capsys, arguments("--precision", "int8", "--calibration-data", data / file, *options))
    assert code == 2 and all(word in message for word in words), message
    assert list(tmp_path.iterdir()) == []
    assert [path.name for path in data.iterdir()] == [file]


@pytest.mark.parametrize(
    ("name", "words"), [("missing.txt", "missing.txt does not exist"), (".", "is a folder, or no plain file; give a file")]
)
def test_calibration_data_that_is_no_file(name: str, words: str, data: Path, arguments: Arguments, tmp_path: Path, capsys: Output) -> None:
    code, message = failure(capsys, arguments("--precision", "int8", "--calibration-data", data / name))
    assert code == 2 and words in message
    assert list(tmp_path.iterdir()) == []


def test_a_ranker_that_was_read_as_a_classifier(tmp_path: Path, capsys: Output) -> None:
    model = make_checkpoint(tmp_path / "model", "bert", task="text-ranking", num_hidden_layers=1)
    capsys.readouterr()  # the progress of saving it
    row = json.dumps({"query": "the bank", "document": "a bank account", "relevance": 1})
    (tmp_path / "eval.jsonl").write_text(f"{row}\n" * 20)
    options = ["--precision", "int8", "--max-drop", "1", "--eval-data", str(tmp_path / "eval.jsonl"), "--runtime", "onnxruntime"]
    code, message = failure(capsys, ["compile", str(model), "-o", str(tmp_path / "package"), *options])
    assert code == 2 and "read as text-classification" in message and "--task text-ranking" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "eval.csv does not exist. Check the path."), (b"a\n1\n", "none of the columns ['a'] is known"), (b"\0", "NUL byte")],
)
def test_eval_data_that_is_none_is_told_before_any_work(
    content: bytes | None, words: str, data: Path, arguments: Arguments, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtbert.pipeline.load_source", lambda *_: pytest.fail("the model is read"))
    if content is not None:
        (data / "eval.csv").write_bytes(content)
    code, message = failure(capsys, arguments("--precision", "int8", "--max-drop", "1", "--eval-data", data / "eval.csv"))
    assert code == 2 and words in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("eval.csv", "sentence,label\na,b\n"),
        ("eval.jsonl", '{"tokens": ["a"], "tags": ["O"]}\n'),
        ("eval.json", '{"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "b", "answers": []}]}]}]}'),
    ],
)
def test_the_column_of_the_texts_need_not_be_in_examples_of_other_kinds(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("sentence\na\n", encoding="utf-8")
    (tmp_path / name).write_text(content, encoding="utf-8")
    options: dict[str, Any] = {"calibration_data": tmp_path / "texts.csv", "eval_data": tmp_path / name, "text_column": "sentence"}
    resolve(CompileConfig(precision="int8", max_drop=1, **options))
    (tmp_path / name).write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=name):
        resolve(CompileConfig(precision="int8", max_drop=1, **options))


GOOD = {
    "texts beyond the longest input": (words(200, longest=90), "128 of 200 calibration texts are longer than 26 tokens and were cut"),
    "200,000 texts": (
        [f"w{index % 54} w{index // 54 % 54} w{index // 54**2 % 54} w{index // 54**3}" for index in range(200_000)],
        "calibrated and checked on 512 texts drawn from the 200000 of",
    ),
    "texts with unknown words": ([f"{text} house" for text in words(200, longest=9)], "the tokenizer does not know"),
}


@pytest.mark.parametrize("name", GOOD)
def test_unusual_calibration_data(name: str, data: Path, arguments: Arguments, tmp_path: Path, capsys: Output) -> None:
    lines, note = GOOD[name]
    (data / "a.txt").write_text("\n".join(lines))
    assert main(arguments("--precision", "int8", "--calibration-data", data / "a.txt", "--no-smooth")) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and any(line.startswith("note ") and note in line for line in captured.out.splitlines()), captured.out
    quantization = open_package(tmp_path / "package").manifest.quantization
    assert quantization is not None
    assert quantization.num_texts + quantization.num_held_back == min(len(lines), 512)


def test_texts_may_lie_in_any_column(data: Path, arguments: Arguments, tmp_path: Path, capsys: Output) -> None:
    rows = "\n".join(f"{index},{text}" for index, text in enumerate(words(40)))
    (data / "a.csv").write_text(f"id,body\n{rows}")
    options = ("--calibration-data", data / "a.csv", "--text-column", "body", "--calibration-size", 16, "--quantize", "ffn", "--no-smooth")
    assert main(arguments("--precision", "int8", *options)) == 0
    quantization = open_package(tmp_path / "package").manifest.quantization
    assert quantization is not None and quantization.preset == "ffn"
    assert (quantization.num_texts, quantization.num_held_back) == (12, 4)
    assert "int8   5 of 5 parts (ffn), thresholds by entropy, not smoothed" in capsys.readouterr().out


INT8_OPTIONS = {
    "--calibration-data": "a.txt",
    "--text-column": "text",
    "--calibration-size": "64",
    "--calibration-method": "auto",
    "--calibration-cache": "calibration.cache",
    "--quantize": "ffn",
    "--max-drop": "1",
    "--eval-data": "b.csv",
    "--metric": "accuracy",
}


@pytest.mark.parametrize("precision", [[], ["--precision", "fp32"], ["--precision", "fp16", "--target", "sm86"]], ids=" ".join)
def test_int8_options_without_int8(precision: list[str], arguments: Arguments, tmp_path: Path, capsys: Output) -> None:
    options = [word for option in INT8_OPTIONS.items() for word in option]
    code, message = failure(capsys, arguments(*precision, *options, "--smooth", "--no-quantize-embeddings"))
    assert code == 2
    assert [flag for flag in (*INT8_OPTIONS, "--smooth", "--quantize-embeddings") if flag not in message] == []
    assert "only matter for INT8" in message and "add --precision int8" in message
    assert list(tmp_path.iterdir()) == []


def test_one_int8_option_without_int8(arguments: Arguments, capsys: Output) -> None:
    code, message = failure(capsys, arguments("--no-smooth"))
    assert code == 2 and "  --smooth only matter for INT8" in message and "calibration" not in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--calibration-size", "15"], ["  --calibration-size: ", "(got 15)"]),
        (["--max-drop", "-1"], ["  --max-drop: ", "(got -1.0)"]),
        (["--max-drop", "nan"], ["  --max-drop: ", "(got nan)"]),
        (["--calibration-size", "0", "--max-drop", "101"], ["  --calibration-size: ", "  --max-drop: "]),
        (["--metric", "macro-f1"], ["--max-drop is measured on; add --max-drop"]),
        (["--eval-data", "a.csv"], ["--eval-data and --metric say what --max-drop is measured on"]),
        (["--calibration-cache", "c", "--quantize", "full", "--max-drop", "1"], ["so that --max-drop, --quantize cannot be given as well"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_int8_options_that_are_wrong(options: list[str], words: list[str], arguments: Arguments, tmp_path: Path, capsys: Output) -> None:
    code, message = failure(capsys, arguments("--precision", "int8", *options))
    assert code == 2 and all(word in message for word in words), message
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import contextlib, json, os, signal, sys, tempfile
from pathlib import Path
import torch, transformers, scipy.stats
from trtbert import cli, pipeline
from trtbert.cli import main

output, temporary, log, *arguments = sys.argv[1:]
tempfile.tempdir = temporary
MOMENTS = ("stage calibrate", "calibrating", "measuring what each layer costs")


def stop_at(moment, number):
    '''Compile in this process, which sends itself the signal when the command line shows that moment for the second time.'''
    shown = []

    def show(what, *_):
        shown.append(what)
        if what == moment and (shown.count(what) == 2 or what != "calibrating"):
            os.kill(os.getpid(), number)

    @contextlib.contextmanager
    def progress():
        yield (lambda stage: show(f"stage {stage}")), show

    cli._progress = progress
    return main(arguments)


results = []
for moment, number in [*((moment, signal.SIGINT) for moment in MOMENTS), ("calibrating", signal.SIGTERM)]:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        try:
            os._exit(stop_at(moment, number))
        except SystemExit as error:
            os._exit(error.code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = [path.name for folder in (output, temporary) for path in Path(folder).iterdir()]
    results.append([moment, signal.Signals(number).name, code, left, Path(log).read_text()])
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def interrupted(source: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The moment, the signal, the exit code, what is left in the output's and the temporary folder, and what was printed."""
    folder = tmp_path_factory.mktemp("interrupted")
    for name in ("output", "temporary"):
        (folder / name).mkdir()
    (folder / "texts.txt").write_text("\n".join(words(80)))
    options = ["--precision", "int8", "--calibration-data", str(folder / "texts.txt"), "--max-drop", "50", "--runtime", "onnxruntime"]
    arguments = ["compile", str(source[0]), "--tokenizer", str(source[1]), "-o", str(folder / "output" / "package"), *options]
    places = [str(folder / name) for name in ("output", "temporary", "log")]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *places, *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    results: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return results


@pytest.mark.slow
def test_a_calibration_was_interrupted_at_every_moment(interrupted: list[Any]) -> None:
    assert len(interrupted) == 4
    codes = {"SIGINT": 130, "SIGTERM": 128 + signal.SIGTERM}
    assert [(moment, code) for moment, name, code, *_ in interrupted if code != codes[name]] == []


@pytest.mark.slow
def test_an_interrupted_calibration_leaves_nothing(interrupted: list[Any]) -> None:
    assert [result[:4] for result in interrupted if result[3]] == []


@pytest.mark.slow
def test_an_interrupted_calibration_says_so(interrupted: list[Any]) -> None:
    printed = {text for _, name, _, _, text in interrupted if name == "SIGINT"}
    assert printed == {"interrupted; no half-written package was left behind\n"}
