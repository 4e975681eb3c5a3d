"""A compilation that is stopped at any moment leaves no package, and mostly nothing at all."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.sources import make_source
from trtbert.package import open_package

SCRIPT = '''
import json, logging, os, signal, sys
from pathlib import Path
from trtbert.config import CompileConfig
from trtbert.pipeline import compile

model, tokenizer, folder = map(Path, sys.argv[1:])
MOMENTS = ("export", "rewrite", "build", "manifest", "rename")


def stop_at(moment, number):
    """Compile in this process, which sends itself the signal at that moment."""
    def on_stage(stage):
        if stage == moment:
            os.kill(os.getpid(), number)

    def hook(event, arguments):
        names = {"manifest": "manifest.json", "rename": "package"}
        if event == "os.rename" and Path(os.fsdecode(arguments[1])).name == names.get(moment):
            os.kill(os.getpid(), number)

    sys.addaudithook(hook)
    compile(model, folder / "package", CompileConfig(tokenizer=tokenizer), on_stage=on_stage)


results = []
for moment in MOMENTS:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            try:
                stop_at(moment, number)
            except KeyboardInterrupt:
                os._exit(130)
            except SystemExit as error:
                os._exit(error.code)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        results.append([moment, signal.Signals(number).name, ended, sorted(path.name for path in folder.iterdir())])
compile(model, folder / "package", CompileConfig(tokenizer=tokenizer))
print(json.dumps({"results": results, "after": sorted(path.name for path in folder.iterdir())}))
'''
ENDINGS = {"SIGTERM": 143, "SIGINT": 130, "SIGKILL": 9}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "output").mkdir()
    command = [sys.executable, "-c", SCRIPT, *map(str, make_source(folder)), str(folder / "output")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    open_package(folder / "output" / "package")
    return outcome


@pytest.mark.slow
def test_it_was_stopped_at_every_moment(outcome: dict[str, Any]) -> None:
    assert len(outcome["results"]) == 15
    assert all(ended == ENDINGS[name] for _, name, ended, _ in outcome["results"]), outcome["results"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["export", "rewrite", "build", "manifest", "rename"])
def test_no_package_is_left(moment: str, outcome: dict[str, Any]) -> None:
    for when, name, _, left in outcome["results"]:
        if when != moment:
            continue
        assert "package" not in left, f"{name} at {moment} left a package"
        if name != "SIGKILL":
            assert left == [], f"{name} at {moment} left {left}"
        assert all(entry.startswith(".package.partial-") for entry in left)


@pytest.mark.slow
def test_the_next_compilation_clears_what_a_kill_left(outcome: dict[str, Any]) -> None:
    assert outcome["after"] == ["package"]
    killed = [left for _, name, _, left in outcome["results"] if name == "SIGKILL"]
    assert all(len(left) == 1 for left in killed), "one folder at a time: each compilation removes those before it"
