"""Calls in a process of its own: results, errors, its death, and its end."""

import math
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from trtbert.errors import InputError, UnsupportedError
from trtbert.worker_process import worker

PARENT = """
import os
from trtbert.worker_process import worker
with worker("x", "") as own:
    print(own.call(os.getpid), flush=True)
    os.kill(os.getpid(), 9)
"""


def fail() -> None:
    raise InputError("so it is")


def miss() -> None:
    raise ModuleNotFoundError("No module named 'x'", name="x")


def is_interrupt_held() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def end(words: str, status: int) -> None:
    print(words, flush=True)
    os._exit(status)


def test_calls_and_errors() -> None:
    with worker("x", "") as own:
        assert own.call(math.hypot, 3, 4) == 5 and own.call(os.getpid) != os.getpid()
        with pytest.raises(InputError) as refused:
            own.call(fail)
        assert str(refused.value) == "so it is"
        with pytest.raises(ModuleNotFoundError) as caught:
            own.call(miss)
        assert caught.value.name == "x" and "in miss" in caught.value.__notes__[0]
        assert own.call(is_interrupt_held) and not is_interrupt_held()
        number = own.call(os.getpid)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ((os._exit, 3), r"status 3\.\nLeave it out\."),
        ((os.abort,), r"status -6\.\n"),
        ((end, "the last words", 1), r"status 1\.\n  the last words\n"),
    ],
)
def test_a_process_that_dies(call: tuple[object, ...], words: str) -> None:
    with worker("my-package", "Leave it out.") as own:
        with pytest.raises(UnsupportedError, match=rf"^my-package cannot be timed: its process ended with {words}"):
            own.call(*call)
        with pytest.raises(UnsupportedError, match="my-package cannot be timed"):
            own.call(os.getpid)


def test_it_ends_while_it_is_busy() -> None:
    with worker("x", "") as own:
        number = own.call(os.getpid)
        own._pipe.send((signal.pause, ()))
    assert not psutil.pid_exists(number)


def test_it_ends_with_its_parent() -> None:
    parent = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=False, timeout=60)
    assert parent.returncode == -9, parent.stderr
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(parent.stdout)).wait(timeout=10)
    assert not psutil.pid_exists(int(parent.stdout))


def test_a_program_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import os\nfrom trtbert.worker_process import worker\nprint('once')\nwith worker('x', '') as w: w.call(os.getpid)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\n", "")


def test_files_in_the_working_directory_are_no_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("numpy.py", "subprocess.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    with worker("x", "") as own:
        assert own.call(math.sqrt, 4) == 2
