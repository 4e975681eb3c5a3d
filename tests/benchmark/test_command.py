"""`trtbert benchmark`: what it times, writes, refuses and says.

Processes are started where they matter: for `done`, a missing library, and an interruption.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.benchmark.conftest import QUICK, Packages
from tests.benchmark.here import no_processes
from tests.models import make_checkpoint
from tests.report.conftest import rewrite_manifest
from trtbert import cli
from trtbert.benchmark.config import BenchmarkConfig
from trtbert.benchmark.run import command_of
from trtbert.cli import main
from trtbert.flags import config_from_flags
from trtbert.package import open_package, write_package

Output = pytest.CaptureFixture[str]


def failure(capsys: Output, *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["benchmark", *map(str, arguments)])
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and "Traceback" not in captured.err
    return code, captured.err


@pytest.fixture(scope="module")
def done(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two packages of one model and one of another, beside all that can run them."""
    folder = tmp_path_factory.mktemp("done")
    names = [str(path) for path in (packages.floats, packages.int8, packages.foreign)]
    command = ["benchmark", *names, *QUICK, "--rates", "20,100000", "-o", f"{folder}/result.json", "--plot", f"{folder}/result.svg"]
    run = subprocess.run([sys.executable, "-m", "trtbert", *command], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    (folder / "stdout").write_text(run.stdout)
    return folder


@pytest.fixture(scope="module")
def facts(done: Path) -> Any:
    return json.loads((done / "result.json").read_text())


def test_everything_is_timed(facts: Any) -> None:
    names = ["torch 1", "onnxruntime 1", "openvino 1", "floats", "int8", "onnxruntime 2", "openvino 2", "foreign"]
    assert [contender["name"] for contender in facts["contenders"]] == names
    assert [(shape["batch"], shape["length"], shape["threads"]) for shape in facts["shapes"]] == [(1, 8, 1), (2, 8, 1)]
    for shape in facts["shapes"]:
        assert [row["name"] for row in shape["results"]] == names
        for row in shape["results"]:
            assert row["num_rounds"] >= 3 and row["num_runs"] >= 6 and row["p50"] > 0 and row["spread"] >= 0
            assert row["texts_per_second"] == pytest.approx(shape["batch"] / row["p50"] * 1e3)
    assert list(facts["peak_megabytes"]) == names and all(10 < size < 10_000 for size in facts["peak_megabytes"].values())


def test_the_baseline_is_the_source_model(facts: Any) -> None:
    baselines = {contender["name"]: contender["baseline"] for contender in facts["contenders"]}
    assert [name for name, baseline in baselines.items() if baseline is None] == ["torch 1", "onnxruntime 2"]
    assert baselines["int8"] == "torch 1" and baselines["foreign"] == "onnxruntime 2"
    for shape in facts["shapes"]:
        for row in shape["results"]:
            assert (row["speedup"] is None) == (baselines[row["name"]] is None)
            assert row["speedup"] is None or row["speedup_p10"] <= row["speedup"] <= row["speedup_p90"]


def test_what_cannot_run_is_left_out_with_the_reason(facts: Any) -> None:
    (entry,) = facts["left_out"]
    assert entry["names"] == ["torch 2"] and "PyTorch does not run" in entry["why"]


def test_answers_were_compared(facts: Any) -> None:
    found = {row["name"]: row for row in facts["agreement"]}
    assert {name: row["as"] for name, row in found.items()} == {
        **dict.fromkeys(("onnxruntime 1", "openvino 1", "floats", "int8"), "torch 1"),
        **dict.fromkeys(("openvino 2", "foreign"), "onnxruntime 2"),
    }
    assert all(row["cosine"] > (0.9 if name == "int8" else 0.999999) for name, row in found.items())


def test_arrivals(facts: Any) -> None:
    slow, fast = facts["arrivals"]
    assert (slow["rate"], fast["rate"], slow["length"], slow["threads"]) == (20, 100000, 8, 1)
    assert [row["num_answers"] for row in slow["results"]] == [3] * 8  # one in each of three turns
    assert not any(row["is_held"] or row["p50"] for row in fast["results"])
    assert all(row["answers_per_second"] < 100000 for row in fast["results"])


def test_the_json_says_what_and_where(facts: Any, packages: Packages) -> None:
    assert facts["format"] == 1 and facts["made_by"].startswith("trtbert ") and facts["seconds"] == 0.05
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", facts["measured_at"])
    assert facts["machine"]["cpu"] and facts["machine"]["num_cores"] >= 1 and "Python" in facts["machine"]["system"]
    assert {"numpy", "onnxruntime", "openvino", "torch", "transformers"} <= set(facts["versions"])
    for row, path in zip(facts["packages"], (packages.floats, packages.int8, packages.foreign), strict=True):
        manifest = open_package(path).manifest
        assert (row["path"], row["files"], row["source_sha256"]) == (str(path), manifest.files, manifest.source.sha256)
    assert set(facts["noise"]) == {"load_before", "others_share", "steal_share", "spread", "limits", "warnings"}


def test_the_command_repeats_it(facts: Any) -> None:
    command = shlex.split(facts["command"])
    assert config_from_flags(cli._parse(command[1:]), BenchmarkConfig) == BenchmarkConfig(
        seconds=0.05, batch_sizes=(1, 2), lengths=(8,), threads=(1,), rates=(20, 100000)
    )


def test_the_lines_fit_a_terminal(done: Path, facts: Any) -> None:
    lines = (done / "stdout").read_text().splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith("wrote ")) and (done / "stdout").read_text().isascii()
    assert lines[-2:] == [f"wrote {done / 'result.json'}", f"wrote {done / 'result.svg'}"]
    assert sum(line.startswith("batch ") for line in lines) == 2 and sum(line.endswith(" not held") for line in lines) == 8
    words = " ".join(" ".join(lines).split())
    for warning in facts["noise"]["warnings"]:
        assert f"WARNING {warning}" in words


def test_the_plot_holds_every_contender(done: Path, facts: Any) -> None:
    root = ElementTree.fromstring((done / "result.svg").read_text())
    name = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{name}polyline")) == 2 * 8 and len(root.findall(f"{name}circle")) == 8 * (1 + 2)
    texts = [text.text for text in root.findall(f"{name}text")]
    assert {contender["name"] for contender in facts["contenders"]} <= set(texts)


@pytest.fixture
def _here() -> Iterator[None]:
    with no_processes():
        yield


@pytest.fixture
def wrong(packages: Packages, tmp_path: Path) -> Path:
    """A package that says it was compiled from the checkpoint, and has other weights."""
    folder = tmp_path / "wrong"
    shutil.copytree(packages.floats, folder)
    model = onnx.load(folder / "model.onnx")
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    largest = max(tensors.values(), key=lambda tensor: numpy_helper.to_array(tensor).size if "classifier" in tensor.name else 0)
    largest.CopyFrom(numpy_helper.from_array(np.flip(numpy_helper.to_array(largest)).copy() * 5, largest.name))
    onnx.save(model, folder / "model.onnx")
    write_package(folder, open_package(folder, check_hashes=False).manifest)
    return folder


@pytest.mark.usefixtures("_here")
def test_other_answers_are_not_timed(wrong: Path, tmp_path: Path, capsys: Output) -> None:
    code, message = failure(capsys, wrong, *QUICK, "--against", "torch", "-o", tmp_path / "x.json")
    assert code == 4 and "wrong does not answer as torch does, and nothing was timed" in message and f"trtbert verify {wrong}" in message
    assert not (tmp_path / "x.json").exists()


@pytest.fixture
def orphan(packages: Packages, tmp_path: Path) -> Path:
    """A package whose source model is gone."""
    shutil.copytree(packages.floats, tmp_path / "orphan")
    source = open_package(packages.floats).manifest.source.model_dump(mode="json")
    rewrite_manifest(tmp_path / "orphan", source=source | {"path": str(tmp_path / "gone")})
    return tmp_path / "orphan"


@pytest.mark.usefixtures("_here")
def test_a_source_model_that_is_gone(orphan: Path, tmp_path: Path, capsys: Output) -> None:
    code, message = failure(capsys, orphan, *QUICK, "--against", "onnxruntime")
    assert code == 2 and f"The source model {tmp_path / 'gone'} of {orphan} is not there any more" in message
    assert main(["benchmark", str(orphan), *QUICK, "-o", str(tmp_path / "x.json")]) == 0
    found = json.loads((tmp_path / "x.json").read_text())
    assert [contender["name"] for contender in found["contenders"]] == ["orphan"]
    assert found["left_out"][0]["names"] == ["torch", "onnxruntime", "openvino"] and "not there" in found["left_out"][0]["why"]
    assert "left out: torch, onnxruntime, openvino" in capsys.readouterr().out


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("library", ["torch", "openvino"])
def test_a_source_model_with_other_weights(library: str, orphan: Path, tmp_path: Path, capsys: Output) -> None:
    make_checkpoint(tmp_path / "gone", "bert", task="text-classification", seed=5)
    code, message = failure(capsys, orphan, *QUICK, "--against", library)
    assert code == 2 and "have another sha256" in message


@pytest.mark.parametrize(
    ("library", "extra", "package", "left"),
    [("openvino", "openvino", "foreign", ["torch", "openvino"]), ("torch", "compile", "floats", ["torch", "onnxruntime", "openvino"])],
)
def test_a_missing_library(
    library: str,
    extra: str,
    package: str,
    left: list[str],
    packages: Packages,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Contenders inherit the path that modules are looked for in. Torch does not run an .onnx file, but exports a checkpoint."""
    raced = getattr(packages, package)
    (tmp_path / f"{library}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{library}'\", name='{library}')")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, message = failure(capsys, raced, *QUICK, "--against", library)
    assert code == 5 and f"pip install 'trtbert[{extra}]'" in message
    assert main(["benchmark", str(raced), *QUICK, "-o", str(tmp_path / "x.json")]) == 0
    found = json.loads((tmp_path / "x.json").read_text())
    assert [name for entry in found["left_out"] for name in entry["names"]] == left


def test_torch_does_not_run_an_onnx_file(packages: Packages, capsys: Output) -> None:
    code, message = failure(capsys, packages.foreign, *QUICK, "--against", "torch")
    assert code == 3 and "PyTorch does not run" in message and "onnxruntime and openvino do" in message


def test_every_wrong_option_is_listed(packages: Packages, capsys: Output) -> None:
    flags = ["--against", "tf", "--batch-sizes", "0", "--lengths", "8,x", "--threads", "", "--rates", "inf", "--seconds", "-1"]
    code, message = failure(capsys, packages.floats, *flags)
    assert code == 2
    for flag in flags[::2]:
        assert f"  {flag}: " in message


def test_no_shape_fits(packages: Packages, tmp_path: Path, capsys: Output) -> None:
    shutil.copytree(packages.floats, tmp_path / "profiled")
    profile = {"batch_size": {"min": 4, "opt": 4, "max": 8}, "seq_len": {"min": 16, "opt": 16, "max": 24}}
    rewrite_manifest(tmp_path / "profiled", profiles=[profile])
    code, message = failure(capsys, packages.floats, tmp_path / "profiled")
    assert code == 3 and "batches 1, 8, 32 of 32, 128 tokens" in message and "takes batches of 4 to 8, 16 to 24 tokens" in message
    code, message = failure(capsys, tmp_path / "profiled", "--batch-sizes", "4", "--lengths", "16", "--rates", "5")
    assert code == 3 and "--rates times single texts" in message


@pytest.mark.usefixtures("_here")
def test_a_length_is_cut_to_what_the_packages_take(packages: Packages, tmp_path: Path) -> None:
    flags = ["--against", "onnxruntime", *QUICK, "--batch-sizes", "1", "--lengths", "100000,8", "-o", str(tmp_path / "x.json")]
    assert main(["benchmark", str(packages.foreign), *flags]) == 0
    found = json.loads((tmp_path / "x.json").read_text())
    assert [shape["length"] for shape in found["shapes"]] == [open_package(packages.foreign).manifest.model.max_length, 8]


@pytest.mark.usefixtures("_here")
def test_threads(packages: Packages, tmp_path: Path) -> None:
    flags = ["--against", "onnxruntime", *QUICK, "--batch-sizes", "1", "--threads", "1,2", "-o", str(tmp_path / "x.json")]
    assert main(["benchmark", str(packages.foreign), *flags]) == 0
    found = json.loads((tmp_path / "x.json").read_text())
    assert [shape["threads"] for shape in found["shapes"]] == [1, 2]
    assert "--threads 1,2" in found["command"]


def test_outputs(packages: Packages, tmp_path: Path, capsys: Output) -> None:
    taken = tmp_path / "taken.json"
    taken.write_text("mine")
    for flags, words in (
        (("-o", taken), "exists already"),
        (("-o", tmp_path / "missing" / "x.json"), "does not exist"),
        (("-o", tmp_path), "is a folder"),
        (("--plot", tmp_path / "x.png"), "does not end in .svg"),
        (("-o", tmp_path / "x.svg", "--plot", tmp_path / "x.svg"), "cannot both be written"),
    ):
        code, message = failure(capsys, packages.floats, *flags)
        assert code == 2 and words in message
    code, message = failure(capsys, packages.floats, packages.floats)
    assert code == 2 and "twice" in message
    code, message = failure(capsys, tmp_path / "none")
    assert code == 2 and "is no package" in message
    assert [path.name for path in tmp_path.iterdir()] == ["taken.json"] and taken.read_text() == "mine"


def test_a_package_keeps_its_own_files(packages: Packages, tmp_path: Path, capsys: Output) -> None:
    before = (packages.floats / "manifest.json").read_bytes()
    code, message = failure(capsys, packages.floats, "-o", packages.floats / "manifest.json", "--force")
    assert code == 2 and "manifest.json is a file of the package" in message
    assert (packages.floats / "manifest.json").read_bytes() == before


def test_a_package_that_does_not_load(packages: Packages, tmp_path: Path, capsys: Output) -> None:
    shutil.copytree(packages.floats, tmp_path / "kit")
    rewrite_manifest(tmp_path / "kit", runtime="tensorrt", target="sm75")
    code, message = failure(capsys, tmp_path / "kit", *QUICK)
    assert code == 5 and "pip install" in message


def test_an_interrupted_run_leaves_nothing(packages: Packages, tmp_path: Path) -> None:
    """Ctrl-C goes to every process of the terminal."""
    script = (
        "import os, signal, sys; from trtbert.benchmark import run; from trtbert.cli import main\n"
        "race = run.race.race\n"
        "def stop(turns, seconds): os.killpg(0, signal.SIGINT); return race(turns, seconds)\n"
        "run.race.race = stop\n"
        "if __name__ == '__main__': sys.exit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py"), "benchmark", str(packages.floats), "-o", str(tmp_path / "x.json")]
    done = subprocess.run([*command, "--against", "torch"], capture_output=True, text=True, check=False, start_new_session=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted; no result was written\n")
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_help_ends_with_an_example(capsys: Output) -> None:
    with pytest.raises(SystemExit):
        main(["benchmark", "--help"])
    example = "trtbert benchmark " + capsys.readouterr().out.rsplit("\n  trtbert benchmark ", 1)[1].replace("\\\n", " ")
    assert cli._parse(shlex.split(example)[1:]).batch_sizes == ["1", "8"]


def test_the_command_holds_what_was_given(packages: Packages) -> None:
    config = BenchmarkConfig(against=("torch", "openvino"), rates=(0.5, 20.0), seconds=1.5)
    assert command_of([open_package(packages.floats)], config) == (
        f"trtbert benchmark {packages.floats} --against torch,openvino --rates 0.5,20 --seconds 1.5"
    )
    assert command_of([open_package(packages.floats)], BenchmarkConfig()) == f"trtbert benchmark {packages.floats}"
