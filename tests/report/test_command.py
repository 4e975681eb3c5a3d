"""`trtbert report` and `compile --report`: what they write, refuse and say."""

import hashlib
import json
import math
import shlex
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import Packages, Report, report, rewrite_manifest
from tests.sources import make_source
from trtbert import cli
from trtbert.builders.targets import resolve_profiles
from trtbert.cli import main
from trtbert.config import Profile
from trtbert.package import HISTOGRAMS, MANIFEST, open_package
from trtbert.report.graph import graph_facts
from trtbert.report.repeat import compile_command

Output = pytest.CaptureFixture[str]


def failure(capsys: Output, *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main([*map(str, arguments)])
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and "Traceback" not in captured.err
    return code, captured.err


def test_it_prints_what_it_wrote(packages: Packages, tmp_path: Path, capsys: Output) -> None:
    capsys.readouterr()
    assert main(["report", str(packages.floats), "-o", str(tmp_path / "a.html"), "--json", str(tmp_path / "a.json")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'a.html'}\nwrote {tmp_path / 'a.json'}\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.html", "a.json"]


def test_help_ends_with_an_example(capsys: Output) -> None:
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    assert capsys.readouterr().out.rstrip().endswith("trtbert report my-package -o report.html --measure")


def test_a_file_is_replaced_with_force_only(packages: Packages, tmp_path: Path, capsys: Output) -> None:
    page = tmp_path / "report.html"
    page.write_text("mine")
    code, message = failure(capsys, "report", packages.floats, "-o", page)
    assert code == 2 and "exists already" in message and "--force" in message and page.read_text() == "mine"
    code, _ = failure(capsys, "report", packages.floats, "-o", tmp_path / "other.html", "--json", page)
    assert code == 2 and not (tmp_path / "other.html").exists()
    assert main(["report", str(packages.floats), "-o", str(page), "--force"]) == 0
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("output", "words"), [("missing/report.html", "does not exist"), (".", "is a folder")], ids=["no such folder", "a folder"]
)
def test_an_output_that_cannot_be(output: str, words: str, packages: Packages, tmp_path: Path, capsys: Output) -> None:
    code, message = failure(capsys, "report", packages.floats, "-o", tmp_path / output)
    assert code == 2 and words in message


def test_a_write_that_fails_leaves_nothing(packages: Packages, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    code, message = failure(capsys, "report", packages.floats, "-o", tmp_path / "report.html")
    assert code == 2 and "No space left" in message and not list(tmp_path.iterdir())


def test_a_package_and_a_file_are_given_once(packages: Packages, tmp_path: Path, capsys: Output) -> None:
    code, message = failure(capsys, "report", packages.floats, packages.floats, "-o", tmp_path / "report.html")
    assert code == 2 and "twice" in message
    code, message = failure(capsys, "report", packages.floats, "-o", tmp_path / "x", "--json", tmp_path / "x")
    assert code == 2 and "another file" in message


def test_no_package(tmp_path: Path, capsys: Output) -> None:
    code, message = failure(capsys, "report", tmp_path / "missing", "-o", tmp_path / "report.html")
    assert code == 2 and "is no package" in message and not list(tmp_path.iterdir())


def test_a_damaged_package(packages: Packages, tmp_path: Path, capsys: Output) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(packages.int8, damaged)
    (damaged / HISTOGRAMS).write_text("{}")
    code, message = failure(capsys, "report", damaged, "-o", tmp_path / "report.html")
    assert code == 2 and HISTOGRAMS in message and "altered" in message
    (damaged / MANIFEST).write_text("{")
    code, message = failure(capsys, "report", damaged, "-o", tmp_path / "report.html")
    assert code == 2 and "cannot be read as JSON" in message


def test_histograms_that_are_none(packages: Packages, tmp_path: Path, capsys: Output) -> None:
    """The manifest lists the file as it is: somebody made it so."""
    made = tmp_path / "made"
    shutil.copytree(packages.int8, made)
    (made / HISTOGRAMS).write_text('{"tensors": 5}')
    files = json.loads((made / MANIFEST).read_text())["files"] | {HISTOGRAMS: hashlib.sha256(b'{"tensors": 5}').hexdigest()}
    rewrite_manifest(made, files=files)
    code, message = failure(capsys, "report", made, "-o", tmp_path / "report.html")
    assert code == 2 and "does not hold histograms" in message


def test_without_jinja2(packages: Packages, tmp_path: Path) -> None:
    block = "import sys; sys.modules['jinja2'] = None; from trtbert.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", block, "report", str(packages.floats), "-o", str(tmp_path / "report.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5 and "pip install 'trtbert[report]'" in done.stderr and "Traceback" not in done.stderr


def test_reporting_needs_no_compiler(packages: Packages, tmp_path: Path) -> None:
    names = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript")
    block = f"import sys; sys.modules.update(dict.fromkeys({names})); from trtbert.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", block, "report", str(packages.int8), "-o", str(tmp_path / "report.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_compile_writes_a_report_into_the_package_or_beside_it(tmp_path: Path, capsys: Output) -> None:
    model, tokenizer = make_source(tmp_path)
    package, page = tmp_path / "package", tmp_path / "package" / "report.html"
    compile_ = ["compile", model, "--tokenizer", tokenizer, "-o", package, "--report"]
    assert main([*map(str, compile_), str(page)]) == 0
    assert capsys.readouterr().out.endswith(f"wrote {page}\n")
    assert "</html>" in page.read_text() and open_package(package).manifest.options == {"tokenizer": str(tokenizer.resolve())}
    code, message = failure(capsys, *compile_, tmp_path / "missing" / "report.html", "--force")
    assert code == 2 and "does not exist" in message
    (tmp_path / "mine.html").write_text("mine")
    shutil.rmtree(package)
    code, message = failure(capsys, *compile_, tmp_path / "mine.html")
    assert code == 2 and "exists already" in message and not package.exists()  # told before any work


@pytest.mark.parametrize("name", ["", "model.onnx", "manifest.json", "sub/report.html"])
def test_a_report_in_the_place_of_the_package(name: str, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtbert.pipeline.compile", lambda *_, **__: pytest.fail("it is told before any work"))
    package = tmp_path / "package"
    code, message = failure(capsys, "compile", "model", "-o", package, "--report", package / name, "--force")
    assert code == 2 and f"Choose {package / 'report.html'}, or a file outside" in message and not package.exists()


@pytest.mark.parametrize("name", [MANIFEST, "model.onnx"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_package_keeps_its_own_files(name: str, force: list[str], packages: Packages, tmp_path: Path, capsys: Output) -> None:
    before = (packages.floats / name).read_bytes()
    ways = (("-o", packages.floats / name), ("-o", tmp_path / "a.html", "--json", packages.floats / name))
    for reported, outputs in product((packages.floats, packages.int8), ways):
        code, message = failure(capsys, "report", reported, *outputs, *force)
        assert code == 2 and f"{name} is a file of the package" in message and "Choose another output" in message
    assert (packages.floats / name).read_bytes() == before and not list(tmp_path.iterdir())


def test_commands_that_work_where_the_reader_stands(packages: Packages, single: Report) -> None:
    (package,) = single.facts["packages"]
    measure = shlex.split(single.facts["measure_command"])
    assert measure == ["trtbert", "report", str(packages.int8), "-o", str(single.page), "--measure", "--force"]
    again = cli._parse(shlex.split(package["commands"]["compile"])[1:]).output
    assert again == packages.int8.with_name("int8-again") and not again.exists()


def test_facts_that_are_no_json_write_nothing(packages: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtbert.report.facts.graph_facts", lambda _: {**graph_facts(_), "raced": {"a": {"b": math.inf}}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        main(["report", str(packages.floats), "-o", str(tmp_path / "a.html"), "--json", str(tmp_path / "a.json")])
    assert not list(tmp_path.iterdir())


def test_the_command_that_repeats_a_compilation_is_one(single: Report, packages: Packages) -> None:
    command = shlex.split(single.facts["packages"][0]["commands"]["compile"])
    config = cli._compile_config(cli._parse(command[1:]))
    manifest = open_package(packages.int8).manifest
    assert config.model_dump(mode="json", exclude_defaults=True) == manifest.options
    assert manifest.options["max_drop"] == 20 and Path(manifest.options["eval_data"]).is_absolute()


def test_the_command_holds_profiles_and_negations(packages: Packages, tmp_path: Path) -> None:
    profiled = tmp_path / "profiled"
    shutil.copytree(packages.floats, profiled)
    options = {
        "profiles": [{"batch_size": {"min": 1, "opt": 2, "max": 3}, "seq_len": {"min": 4, "opt": 5, "max": 6}}],
        "precision": "int8",
        "smooth": False,
        "allow_unfused": True,
    }
    rewrite_manifest(profiled, options=options)
    facts = report(tmp_path, profiled).facts["packages"][0]
    flags = "--batch-size 1 2 3 --seq-len 4 5 6 --precision int8 --no-smooth --allow-unfused"
    assert facts["commands"]["compile"].endswith(flags)
    cli._parse(shlex.split(facts["commands"]["compile"])[1:])


@pytest.mark.parametrize(
    ("profiles", "flags"),
    [
        ([{"batch_size": {"min": 1, "opt": 1, "max": 2}}, {}], "--batch-size 1 1 2 --batch-size 1 8 64"),
        (
            [{"seq_len": {"min": 1, "opt": 16, "max": 32}}, {"batch_size": {"min": 1, "opt": 1, "max": 1}}],
            "--batch-size 1 8 64 --seq-len 1 16 32 --batch-size 1 1 1 --seq-len 1 32 130",
        ),
    ],
)
def test_the_command_holds_what_profiles_leave_to_the_defaults(profiles: list[dict[str, Any]], flags: str, packages: Packages) -> None:
    manifest = open_package(packages.floats).manifest
    length = {"max_length": 130}
    manifest = manifest.model_copy(update={"options": {"profiles": profiles}, "model": manifest.model.model_copy(update=length)})
    command = compile_command(manifest, packages.floats)
    assert command is not None and command.endswith(f"-again {flags}")
    config = cli._compile_config(cli._parse(shlex.split(command)[1:]))
    resolved = [resolve_profiles(each, 130) for each in (config.profiles, tuple(map(Profile.model_validate, profiles)))]
    assert resolved[0] == resolved[1]


def test_a_read_only_folder(packages: Packages, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)  # root may write anywhere
    code, message = failure(capsys, "report", packages.floats, "-o", tmp_path / "report.html")
    assert code == 2 and "Permission denied" in message
