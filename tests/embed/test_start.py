"""A Ray that does not start: one message, and no process is left. Ray itself is started by the slow test alone."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from trtbert.embed.cluster import connected
from trtbert.embed.config import EmbedConfig
from trtbert.errors import ConfigError, MissingRuntimeError

LOCAL = EmbedConfig(package=Path("pkg"), workers=1)
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """A process that sleeps, with these arguments."""
    with ExitStack() as stack:

        def started(*arguments: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", *arguments])
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield started


def _fails_with(monkeypatch: pytest.MonkeyPatch, error: BaseException, before: Callable[[], object] = lambda: None) -> None:
    def init(*_: Any, **__: Any) -> None:
        before()
        raise error

    monkeypatch.setattr(ray, "init", init)


def test_what_ray_had_started_is_ended_alone(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    session = f"--log_dir=/tmp/ray/session_2026-11-27_10-00-00_123456_{os.getpid()}/logs"
    earlier, later = start(session), list[subprocess.Popen[bytes]]()

    def begin() -> None:
        later.extend((start(session), start(session.replace(str(os.getpid()), "1"))))

    _fails_with(monkeypatch, Exception("The current node timed out during startup."), begin)
    words = r"Ray did not start on this machine: The current node timed out during startup\. Run the command again"
    with pytest.raises(MissingRuntimeError, match=words), connected(LOCAL):
        raise AssertionError
    assert [process.poll() is None for process in (earlier, *later)] == [True, False, True]


@pytest.mark.parametrize(("code", "expected"), [(signal.SIGTERM, 143), (129, 129)])
def test_signals_while_ray_starts(code: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray ends with the bare number of SIGTERM; its handler does not stay."""
    before = signal.getsignal(signal.SIGTERM)
    _fails_with(monkeypatch, SystemExit(code), lambda: signal.signal(signal.SIGTERM, lambda *_: sys.exit(15)))
    with pytest.raises(SystemExit) as end, connected(LOCAL):
        raise AssertionError
    assert end.value.code == expected
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_cluster_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    _fails_with(monkeypatch, RuntimeError("Version mismatch"))
    config = LOCAL.model_copy(update={"address": "auto"})
    with pytest.raises(ConfigError, match=r"No Ray cluster can be used at auto: Version mismatch\. Check the address"), connected(config):
        raise AssertionError


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_ray_itself_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes are there when it gives up waiting for them."""
    others, found = set(psutil.Process().children(recursive=True)), dict[psutil.Process, str]()

    def give_up(*_: Any) -> None:
        found.update({process: process.name() for process in psutil.Process().children(recursive=True) if process not in others})
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray._private.services.get_node", give_up)
    with pytest.raises(MissingRuntimeError, match="timed out during startup"), connected(LOCAL):
        raise AssertionError
    assert {"raylet", "gcs_server"} <= set(found.values())
    assert not [name for process, name in found.items() if process.is_running()]
    gc.collect()  # Ray's node, which never asked how its processes ended: the warnings are for here.
