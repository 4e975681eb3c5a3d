"""The pages are run as they stand: every command in its order, with the exit code and the output that the page shows.

A page runs in a folder that holds what a reader would have, and what earlier pages made of it.
"""

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest

from tests.docs import DOCS, ROOT, Command, blocks, commands
from tests.models import LABELS, make_checkpoint
from tests.predictor.packages import make_task_package
from tests.sources import make_source
from tests.tiny_tokenizers import SENTENCES
from trtbert import cli

PARSED = {"benchmark", "bad-inputs", "compress", "cpp", "docker", "embed", "int8", "report", "security", "serve", "triton"}
"""Pages, and the folder of the methods, with commands on MODEL, PKG or a server, which tests of their subjects run;
tests/test_docs.py parses them. Those of the kernels are written by commands of their own."""
RUN = [page for page in sorted(DOCS.rglob("*.md")) if not {page.stem, page.parent.name} & PARSED and not page.stem.startswith("kernel")]
NOT_RUN = {
    "gpu": r"trtbert (build|verify) |make test-gpu$|plugins/scripts/|cmake |pip install .*tensorrt",
    "install": r"(python3 -m venv|pip install|cp -r) ",
    "server": r"trtbert serve |curl ",
    "tests": r"python -m pytest -n0 ",
}
"""Why a block is not run, and what alone may stand in it then."""
MADE = (
    "trtbert compile my-model/ -o my-package --dump graphs",
    "trtbert compile my-model/ -o int8 --precision int8 --runtime onnxruntime --calibration-data texts.txt",
)
_OUTPUTS = ("-o", "--output", "--dump", "--report", "--json")
_NUMBER = re.compile(r"\d+(\.\d+)?(e[-+]?\d+)?")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has: models, an ONNX file and its tokenizer, texts, labelled examples, packages of earlier pages."""
    folder = tmp_path_factory.mktemp("world")
    make_checkpoint(folder / "my-model", "bert", task="text-classification")
    make_checkpoint(folder / "encoder", "bert")
    (folder / "unknown").mkdir()
    (folder / "unknown/config.json").write_text('{"model_type": "nystromformer", "architectures": ["NystromformerModel"]}')
    file, _ = make_source(folder)
    shutil.copyfile(file, folder / "model.onnx")
    _with_odd_summand(folder / "model.onnx", folder / "odd.onnx")
    words = [word for sentence in SENTENCES for word in sentence.split()]
    texts = [" ".join(words[index : index + 3 + index % 12]) for index in range(100)]
    (folder / "texts.txt").write_text("\n".join(texts))
    labels = LABELS["text-classification"]
    rows = [f'"{text}",{labels[index % len(labels)]}\n'.replace('""', '"') for index, text in enumerate(texts)]
    (folder / "test.csv").write_text("text,label\n" + "".join(rows))
    make_task_package(folder, "sentence-similarity", "my-embedder")
    make_task_package(folder, "text-classification", "my-classifier")
    with contextlib.chdir(folder):
        for command in MADE:
            assert _run(shlex.split(command))[0] == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_runs(page: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(world, tmp_path / "world"))
    monkeypatch.chdir(folder)
    run = [block for block in blocks(page) if block.reason is None]
    for path in {Path(path) for block in run if not block.language for command in commands(block) for path in _written(command.text)}:
        _remove(path)
    namespace: dict[str, object] = {}
    for block in run:
        if block.language == "python":
            exec(compile(block.text, str(page), "exec"), namespace)
        else:
            for command in commands(block):
                _check(command)


def test_pages_are_run() -> None:
    assert len(RUN) > 15
    assert {block.language for page in RUN for block in blocks(page)} == {"", "python"}


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_fence_is_a_block(page: Path) -> None:
    assert page.read_text().count("```") == 2 * len(blocks(page))
    assert page.read_text().count("<!--") == sum(block.reason is not None for block in blocks(page))


def _left_out() -> list[tuple[str, str]]:
    marked = [(block.reason, block) for page in RUN for block in blocks(page) if block.reason is not None]
    return [(reason, command.text) for reason, block in marked for command in commands(block)]


@pytest.mark.parametrize(("reason", "command"), _left_out())
def test_what_is_not_run_needs_what_the_page_says(reason: str, command: str) -> None:
    assert re.match(NOT_RUN[reason], command), f"{command!r} needs no {reason}: let it be run"


def test_the_tests_that_pages_name_exist() -> None:
    files = [part for reason, command in _left_out() if reason == "tests" for part in command.split() if part.endswith(".py")]
    assert len(files) > 5 and [file for file in files if not (ROOT / file).is_file()] == []


def _checks() -> list[str]:
    """What the last column of the table of limits says, as far as it is a command."""
    rows = re.findall(r"^\|.*\| ([^|]*) \|$", (DOCS / "limits.md").read_text(), re.MULTILINE)
    return [command for row in rows for command in re.findall(r"`([^`]* [^`]*)`", row)]


def test_the_commands_that_check_a_limit_are_there() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    kinds = dict.fromkeys(("trtbert", "make", "python"), 0)
    for command in _checks():
        program, *arguments = shlex.split(command)
        kinds[program] = kinds.get(program, 0) + 1
        if program == "trtbert":
            cli._parse(arguments)
        elif program == "make":
            assert arguments[0] in targets
        else:
            assert [part for part in (program, *arguments) if "/" in part and not (ROOT / part).exists()] == []
    assert all(count > 0 for count in kinds.values())


def _check(command: Command) -> None:
    program, *arguments = shlex.split(command.text)
    assert program in ("trtbert", "polygraphy"), f"{command.text!r} is neither run nor marked"
    code, printed = _run([program, *arguments])
    assert code == command.exit_code, f"{command.text} ended with {code}:\n{printed}"
    lines = iter([_without_numbers(line) for line in printed.splitlines()])
    for shown in command.output:
        assert shown == "..." or _without_numbers(shown) in lines, (
            f"{command.text} does not print {shown!r} (any more, or here), but:\n{printed}"
        )


def _run(command: Sequence[str]) -> tuple[int, str]:
    """The exit code, and what is printed on both streams."""
    if command[0] != "trtbert":
        program = Path(sys.executable).with_name(command[0])
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = cli.main(command[1:])
    return code, printed.getvalue()


def _written(command: str) -> list[str]:
    """The paths that a command writes, and the build kit that may stand for a package."""
    words = shlex.split(command)
    return [path for flag, name in pairwise(words) if flag in _OUTPUTS for path in (name, f"{name}.build-kit")]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _without_numbers(line: str) -> str:
    return " ".join(_NUMBER.sub("#", line).split())


def _with_odd_summand(source: Path, output: Path) -> None:
    """The file with a number for each head added to the scores of its last layer: neither mask nor position bias."""
    model = onnx.load(source)
    softmax = [node for node in model.graph.node if node.op_type == "Softmax"][-1]
    heads = onnx.numpy_helper.from_array(np.arange(1, 3, dtype=np.float32).reshape(1, -1, 1, 1), "odd_summand")
    model.graph.initializer.append(heads)
    summed = onnx.helper.make_node("Add", [softmax.input[0], "odd_summand"], ["odd_scores"], name="odd_sum")
    model.graph.node.insert(list(model.graph.node).index(softmax), summed)
    softmax.input[0] = "odd_scores"
    onnx.save(model, output)
