"""Exit codes, messages and outputs of every command."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sources import make_source
from trtbert import cli
from trtbert.cli import main
from trtbert.config import config_from_mapping
from trtbert.errors import ConfigError
from trtbert.package import MANIFEST, open_package
from trtbert.version import __version__

COMMANDS = (
    *("compile", "compress", "build", "verify", "predict", "inspect", "serve", "triton", "embed", "report", "doctor", "benchmark"),
    "completion",
)
Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def package(source: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    assert main(["compile", str(source[0]), "--tokenizer", str(source[1]), "-o", str(folder / "package")]) == 0
    return folder / "package"


def failure(capsys: Output, arguments: list[str]) -> tuple[int, str]:
    """The exit code and the message of a command that prints nothing else and shows no traceback."""
    code = main(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and "Traceback" not in captured.err
    return code, captured.err


def usage_error(capsys: Output, arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example(command: str, capsys: Output) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    example = text[text.rindex("example:\n") :].splitlines()[1:]
    commands = "\n".join(example).replace(" \\\n", "").splitlines()
    assert commands and all(line.startswith(f"  trtbert {command} ") for line in commands)


def test_help_names_every_command(capsys: Output) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert set(re.findall(r"^    (\w+)\s", text, re.MULTILINE)) == set(COMMANDS)


def test_version(capsys: Output) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("trtbert 0.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["squeeze"], "invalid choice: 'squeeze'"),
        (["compile", "model"], "-o/--output"),
        (["compile", "", "-o", "x"], "argument model: the path is empty"),
        (["compile", "model", "-o", ""], "argument -o/--output: the path is empty"),
        (["predict", ""], "argument PKG: the path is empty"),
        (["compile", "model", "-o", "x", "--target", "sm61"], "invalid choice: 'sm61'"),
        (["compile", "model", "-o", "x", "--precision", "int3"], "invalid choice: 'int3'"),
        (["compile", "model", "-o", "x", "--task", "translation"], "invalid choice: 'translation'"),
        (["compile", "model", "-o", "x", "--batch-size", "1", "8"], "expected 3 arguments"),
        (["compile", "model", "-o", "x", "--seq-len", "1", "eight", "9"], "invalid int value: 'eight'"),
    ],
    ids=" ".join,
)
def test_bad_usage(arguments: list[str], words: str, capsys: Output) -> None:
    assert words in usage_error(capsys, arguments)


REFUSED = {
    "fp32 for Turing on RTX": (["--target", "sm75", "--runtime", "tensorrt-rtx", "--precision", "fp32"], "use --precision fp16"),
    "Volta on RTX": (["--target", "sm70", "--runtime", "tensorrt-rtx"], "use --runtime tensorrt with TensorRT 10.4"),
    "Hopper on RTX": (["--target", "sm90", "--runtime", "tensorrt-rtx"], "use --runtime tensorrt"),
    "TensorRT on a CPU": (["--target", "cpu", "--runtime", "tensorrt"], "use --runtime onnxruntime"),
    "ONNX Runtime for one GPU": (["--target", "sm86", "--runtime", "onnxruntime"], "use --target cuda"),
    "fp16 on a CPU": (["--precision", "fp16"], "use --precision fp32"),
    "bf16 on Turing": (["--target", "sm75", "--precision", "bf16"], "use --precision fp16"),
    "bf16 on Volta": (["--target", "sm70", "--precision", "bf16"], "use --precision fp16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_combination_that_cannot_work(name: str, source: tuple[Path, Path], tmp_path: Path, capsys: Output) -> None:
    options, advice = REFUSED[name]
    arguments = ["compile", str(source[0]), "--tokenizer", str(source[1]), "-o", str(tmp_path / "package"), *options]
    code, message = failure(capsys, arguments)
    assert code == 3 and advice in message
    assert not list(tmp_path.iterdir())


def test_a_decoder_is_refused(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt" / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    code, message = failure(capsys, ["compile", str(tmp_path / "gpt"), "-o", str(tmp_path / "package")])
    assert code == 3 and "'gpt2' (GPT2LMHeadModel) is not supported" in message
    assert [path.name for path in tmp_path.iterdir()] == ["gpt"]


def test_a_missing_onnx_file(tmp_path: Path, capsys: Output) -> None:
    code, message = failure(capsys, ["compile", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "package")])
    assert code == 2 and "model.onnx" in message
    assert not list(tmp_path.iterdir())


def test_a_missing_tokenizer(source: tuple[Path, Path], tmp_path: Path, capsys: Output) -> None:
    code, message = failure(capsys, ["compile", str(source[0]), "-o", str(tmp_path / "package")])
    assert code == 2 and "--tokenizer" in message
    assert not list(tmp_path.iterdir())


def test_a_missing_output_folder(source: tuple[Path, Path], tmp_path: Path, capsys: Output) -> None:
    arguments = ["compile", str(source[0]), "--tokenizer", str(source[1]), "-o", str(tmp_path / "a" / "b")]
    code, message = failure(capsys, arguments)
    assert code == 2 and "mkdir -p" in message


@pytest.mark.parametrize("command", ["predict", "inspect", "build"])
def test_what_is_no_package(command: str, tmp_path: Path, capsys: Output) -> None:
    extra = ["-o", str(tmp_path / "out")] if command == "build" else []
    code, message = failure(capsys, [command, str(tmp_path), *extra])
    assert code == 2 and f"it holds no {MANIFEST}" in message
    code, message = failure(capsys, [command, str(tmp_path / "nothing"), *extra])
    assert code == 2 and "there is no such folder" in message


def _config(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "config.toml").write_text(text)
    return ["compile", "no-model", "-o", str(tmp_path / "package"), "--config", str(tmp_path / "config.toml")]


@pytest.mark.parametrize(("module", "extra"), [("accelerate", "compress"), ("onnx_ir.passes", "compile"), ("ray", "ray")])
def test_a_missing_library_names_its_extra(module: str, extra: str, package: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr("trtbert.predictor.load", _raiser(ModuleNotFoundError("not there", name=module)))
    code, message = failure(capsys, ["predict", str(package), "w1"])
    assert code == 5
    assert message == f"error: this command needs {module!r}, which is not installed: pip install 'trtbert[{extra}]'\n"


def test_a_missing_module_of_no_extra_is_a_bug(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtbert.predictor.load", _raiser(ModuleNotFoundError("not there", name="trtbert.predikt")))
    with pytest.raises(ModuleNotFoundError):
        main(["predict", str(package), "w1"])


def test_every_problem_of_a_configuration_is_listed(tmp_path: Path, capsys: Output) -> None:
    text = """
    [compile]
    target = "sm61"
    precision = "int3"
    pool = "mean"
    [[compile.profiles]]
    batch_size = { min = 4, opt = 2, max = 8 }
    seq_len = { min = 0, opt = 2, max = 8 }
    """
    code, message = failure(capsys, _config(tmp_path, text))
    assert code == 2 and message.startswith("error: The configuration is wrong:\n")
    lines = message.splitlines()[1:]
    assert len(lines) == 5
    for words in (
        "target: ",
        "(got 'sm61')",
        "precision: ",
        "(got 'int3')",
        "pool: ",
        "needs 1 <= MIN <= OPT <= MAX, got 4 2 8",
        "got 0 2 8",
    ):
        assert words in message
    assert "'sm75'" in message, "what is allowed is not named"


def test_a_problem_is_named_as_it_was_given(tmp_path: Path, capsys: Output) -> None:
    """By the key of the file, or by the flag, which wins."""
    command = _config(tmp_path, "[compile]\nmax_drop = 101\ncalibration_size = 1")
    code, message = failure(capsys, [*command, "--calibration-size", "2", "--batch-size", "8", "1", "8"])
    assert code == 2 and message.splitlines()[1:] == [
        "  --batch-size: needs 1 <= MIN <= OPT <= MAX, got 8 1 8",
        "  --calibration-size: Input should be greater than or equal to 16 (got 2)",
        "  max_drop: Input should be less than or equal to 100 (got 101)",
    ]
    with pytest.raises(ConfigError, match=r"^The configuration is wrong:\n  profiles\.0\.batch_size: needs"):
        config_from_mapping({"profiles": [{"batch_size": {"min": 8, "opt": 1, "max": 8}}]})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[compile\ntarget = 1", "cannot be read"),
        ("[compyle]\ntarget = 'cpu'", "must hold one table [compile], and it has ['compyle']"),
        ("target = 'cpu'", "must hold one table [compile], and it has ['target']"),
        ("compile = 3", "must hold one table [compile]"),
        ("[compile]\ntarget = " + "[" * 9999, "cannot be read: maximum recursion depth exceeded"),
        ("[compile]\ntarget = " + "1" * 9999, "cannot be read: Exceeds the limit"),
    ],
    ids=["no TOML", "another table", "no table", "no table but a number", "too deep", "too many digits"],
)
def test_a_configuration_file_that_is_none(text: str, words: str, tmp_path: Path, capsys: Output) -> None:
    code, message = failure(capsys, _config(tmp_path, text))
    assert code == 2 and words in message


def test_a_configuration_file_that_is_missing(tmp_path: Path, capsys: Output) -> None:
    code, message = failure(capsys, ["compile", "m", "-o", str(tmp_path / "p"), "--config", str(tmp_path / "none.toml")])
    assert code == 2 and "none.toml cannot be read: No such file or directory. Check the path." in message


def _parse(*options: str) -> Any:
    return cli._compile_config(cli._parse(["compile", "model", "-o", "package", *options]))


def test_the_command_line_wins_over_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[compile]\ntarget = "sm80"\nprecision = "bf16"\nallow_unfused = true\n')
    config = _parse("--config", str(tmp_path / "c.toml"), "--precision", "fp16")
    assert (config.target, config.precision, config.allow_unfused) == ("sm80", "fp16", True)


def test_profiles() -> None:
    def ranges(config: Any) -> list[Any]:
        return [[(r.min, r.opt, r.max) for r in (p.batch_size, p.seq_len) if r is not None] for p in config.profiles]

    assert ranges(_parse()) == [[(1, 8, 64)]]
    assert ranges(_parse("--batch-size", "1", "2", "3")) == [[(1, 2, 3)]]
    assert ranges(_parse("--seq-len", "1", "64", "128")) == [[(1, 8, 64), (1, 64, 128)]]
    two = ("--batch-size", "1", "1", "1", "--batch-size", "8", "16", "32")
    assert ranges(_parse(*two, "--seq-len", "1", "64", "128")) == [[(1, 1, 1), (1, 64, 128)], [(8, 16, 32), (1, 64, 128)]]
    pairs = ("--seq-len", "1", "8", "16", "--seq-len", "16", "64", "128")
    assert ranges(_parse(*two, *pairs)) == [[(1, 1, 1), (1, 8, 16)], [(8, 16, 32), (16, 64, 128)]]


def test_profiles_that_do_not_pair(capsys: Output) -> None:
    ranges = ["--batch-size", "1", "1", "1"] * 2 + ["--seq-len", "1", "8", "16"] * 3
    code, message = failure(capsys, ["compile", "model", "-o", "package", *ranges])
    assert code == 2 and "--batch-size is given 2 times and the other range 3 times" in message
    code, message = failure(capsys, ["compile", "model", "-o", "package", "--batch-size", "8", "4", "2"])
    assert code == 2 and "needs 1 <= MIN <= OPT <= MAX, got 8 4 2" in message


def test_compile_prints_what_it_wrote(source: tuple[Path, Path], tmp_path: Path, capsys: Output) -> None:
    output = tmp_path / "package"
    assert main(["compile", str(source[0]), "--tokenizer", str(source[1]), "-o", str(output)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines()[-1].startswith(f"wrote {output} (")
    assert "fused  FusedQkvAttention x 2" in captured.out
    code, message = failure(capsys, ["compile", str(source[0]), "--tokenizer", str(source[1]), "-o", str(output)])
    assert code == 2 and "--force" in message
    assert main(["compile", str(source[0]), "--tokenizer", str(source[1]), "-o", str(output), "--force"]) == 0


def test_verify(source: tuple[Path, Path], package: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["verify", str(package), str(source[0]), "--tokenizer", str(source[1])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("verified on ") and lines[1].split()[:2] == ["engine", "error"]
    other, tokenizer = make_source(tmp_path, "distilbert-question-answering-relu-eager-opset13.onnx")
    assert failure(capsys, ["verify", str(package), str(other), "--tokenizer", str(tokenizer)])[0] == 2


def test_predict_from_arguments(package: Path, capsys: Output) -> None:
    assert main(["predict", str(package), "w1 w2 w3", "w4"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 2
    assert all(answer.keys() == {"label", "score"} for answer in answers)
    assert answers[0] != answers[1]


def test_predict_from_standard_input(package: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["predict", str(package), "w1 w2 w3", "w4"]) == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO("w1 w2 w3\nw4\n"))
    assert main(["predict", str(package)]) == 0
    assert capsys.readouterr().out == expected


def run(arguments: list[str], **streams: Any) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own, with the streams that a shell gives it."""
    command = [sys.executable, "-m", "trtbert", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, encoding="utf-8", timeout=60, check=False, **streams)


def test_closed_standard_input(package: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    code, message = failure(capsys, ["predict", str(package)])
    assert code == 2 and "Standard input is closed" in message


def test_standard_input_is_utf8_in_every_locale(package: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    def predict(content: bytes) -> list[str]:
        monkeypatch.setattr(sys, "stdin", _stdin(content))
        return ["predict", str(package)]

    code, message = failure(capsys, predict("w1 caf\u00e9\n".encode("latin-1")))
    assert code == 2 and "not UTF-8" in message and "Save the texts as UTF-8" in message
    assert main(predict(b"w1 w2\n")) == 0
    expected = capsys.readouterr().out
    assert main(predict(b"\xef\xbb\xbfw1 w2\r\n")) == 0
    assert capsys.readouterr().out == expected != ""


def _stdin(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding="latin-1")


def test_no_texts_give_no_answers(package: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr(sys, "stdin", _stdin(b""))
    assert main(["predict", str(package)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("command", ["predict {package} w1", "triton {package} -o {output}", "--help"])
def test_standard_output_that_is_full(command: str, package: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = run([word.format(package=package, output=tmp_path / "output") for word in command.split()], stdout=full)
    assert process.returncode == 2
    assert process.stderr == "error: Standard output cannot be written: No space left on device. Send it to another file or disk.\n"


@pytest.mark.parametrize("command", ["inspect {package}", "triton {package} -o {output}"])
def test_a_reader_that_went_away(command: str, package: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = run([word.format(package=package, output=tmp_path / "output") for word in command.split()], stdout=writing)
    os.close(writing)
    assert (process.returncode, process.stderr) == (0, "")


def test_predict_of_json(package: Path, capsys: Output) -> None:
    assert main(["predict", str(package), "--json", '"w1 w2 w3"', '["w1", "w2"]', '{"text": "w1", "text_pair": "w2"}']) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 3 and answers[1] == answers[2] != answers[0]
    assert main(["predict", str(package), '"w1 w2 w3"', "--json", '["w1", "w2"]']) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == answers[:2]
    assert "unrecognized arguments: --jsonl" in usage_error(capsys, ["predict", str(package), "w1", "--jsonl", "w2"])
    code, message = failure(capsys, ["predict", str(package), "--json", "w1 w2"])
    assert code == 2 and "--json needs JSON for every text" in message


@pytest.mark.parametrize(("text", "words"), [("[" * 200_000, "maximum recursion depth exceeded"), ("1" * 5000, "Exceeds the limit")])
def test_predict_of_json_that_python_cannot_read(
    text: str, words: str, package: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(sys, "stdin", _stdin(text.encode()))
    code, message = failure(capsys, ["predict", str(package), "--json"])
    assert code == 2 and "--json needs JSON for every text, and this cannot be read: " in message and words in message
    assert len(message) < 500


def test_predict_with_an_altered_package(source: tuple[Path, Path], package: Path, tmp_path: Path, capsys: Output) -> None:
    altered = Path(shutil.copytree(package, tmp_path / "altered"))
    with (altered / "model.onnx").open("ab") as file:
        file.write(b"\0")
    code, message = failure(capsys, ["predict", str(altered), "w1"])
    assert code == 2 and "'model.onnx' in" in message and "was altered" in message


def test_inspect_a_package(package: Path, capsys: Output) -> None:
    assert main(["inspect", str(package)]) == 0
    text = capsys.readouterr().out
    manifest = open_package(package).manifest
    for words in (
        "text-classification, up to 26 tokens",
        "target cpu, runtime onnxruntime, precision fp32",
        "input  input_ids int32 ['batch', 'sequence']",
        "output scores float32 ['batch', 3]",
        "fused  FusedEmbedLayerNorm x 1",
        "lowered FusedQkvAttention -> ",
        f"verified on {manifest.verification.num_texts} texts",
    ):
        assert words in text


def test_inspect_an_onnx_file(source: tuple[Path, Path], tmp_path: Path, capsys: Output) -> None:
    assert main(["inspect", str(source[0])]) == 0
    text = capsys.readouterr().out
    assert "would fuse FusedQkvAttention x 2" in text and "opset" in text
    deberta = source[0].with_name("deberta-v2-eager-opset14.onnx")
    assert main(["inspect", str(deberta)]) == 0
    assert "is neither the padding mask nor a [1,N,S,S] position bias" in capsys.readouterr().out
    (tmp_path / "broken.onnx").write_bytes(b"no protobuf at all")
    code, _ = failure(capsys, ["inspect", str(tmp_path / "broken.onnx")])
    assert code == 2


def test_inspect_a_missing_onnx_file(tmp_path: Path) -> None:
    """No library is loaded for it."""
    block = "import sys; sys.modules['onnx_ir'] = None; from trtbert.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", block, "inspect", str(tmp_path / "none.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"error: {tmp_path / 'none.onnx'} does not exist. Check the path.\n")


def test_inspect_tells_who_made_a_graph(package: Path, capsys: Output) -> None:
    assert main(["inspect", str(package / "model.onnx")]) == 0
    assert f"made by trtbert {__version__}\n" in capsys.readouterr().out


def test_texts_are_not_required(capsys: Output) -> None:
    assert "required: PKG. " in usage_error(capsys, ["predict"])


def test_inspect_another_file(package: Path, capsys: Output) -> None:
    code, message = failure(capsys, ["inspect", str(package / MANIFEST)])
    assert code == 2 and "is neither a package nor an ONNX model. Give a package folder or a file that ends in .onnx." in message


def test_build_of_a_package_that_is_built(package: Path, tmp_path: Path, capsys: Output) -> None:
    code, message = failure(capsys, ["build", str(package), "-o", str(tmp_path / "out")])
    assert code == 2 and "is no build kit" in message and f"trtbert predict {package} TEXT. Give a kit, which" in message


def test_a_bug_shows_its_traceback(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtbert.predictor.load", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["predict", str(package), "w1"])


@pytest.mark.parametrize(
    ("command", "name", "message"),
    [
        (["predict", "w1"], "trtbert.predictor.load", "interrupted\n"),
        (["build", "-o", "out"], "trtbert.pipeline.build", "interrupted; no half-written package was left behind\n"),
    ],
    ids=["predict", "build"],
)
def test_an_interruption(
    command: list[str], name: str, message: str, package: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(name, _raiser(KeyboardInterrupt()))
    assert main([command[0], str(package), *command[1:]]) == 130
    assert capsys.readouterr().err == message


def test_no_memory(package: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr("trtbert.predictor.load", _raiser(MemoryError("Unable to allocate 9 GiB")))
    code, message = failure(capsys, ["predict", str(package), "w1"])
    assert code == 2 and "memory is used up (Unable to allocate 9 GiB)" in message and "3 GB" in message


@pytest.mark.parametrize("command", ["inspect {}", "predict {} w1", "compress {} -o x --method heads", "completion bash"])
def test_a_working_directory_that_was_deleted(command: str, package: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    deleted = "import os, sys; os.rmdir(os.getcwd()); from trtbert.__main__ import main; sys.exit(main())"
    arguments = [sys.executable, "-c", deleted, *command.format(package).split()]
    done = subprocess.run(arguments, cwd=tmp_path / "gone", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "error: The working directory was deleted. Change to another one.\n")


def test_no_temporary_directory(package: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/not/there"])
    monkeypatch.setattr("trtbert.predictor.load", lambda _: tempfile.gettempdir())
    code, message = failure(capsys, ["predict", str(package), "w1"])
    assert (code, message) == (
        2,
        "error: No usable temporary directory found in ['/not/there']. Set TMPDIR to a folder that can be written.\n",
    )


def _raiser(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail
