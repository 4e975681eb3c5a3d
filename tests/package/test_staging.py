"""An output folder appears whole or not at all, whatever ends the process."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.package.test_package import FACTS
from tests.predictor.packages import make_manifest
from trtbert.errors import InputError
from trtbert.package import staged, write_package

HOLDER = """
import sys, time
from trtbert.package import staged
with staged(sys.argv[1]) as folder:
    (folder / "model.onnx").write_text("half")
    print(folder, flush=True)
    time.sleep(60)
"""


def hold(output: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that is in the middle of a build, and its folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(output)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as stream:
        return process, Path(stream.readline().strip())


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(output: Path, text: str = "new", *, force: bool = False) -> None:
    with staged(output, force) as folder:
        (folder / "model.onnx").write_text(text)
        (folder / "tokenizer.json").write_text("{}")
        write_package(folder, make_manifest(FACTS))


def test_the_folder_is_renamed_into_place(tmp_path: Path) -> None:
    with staged(tmp_path / "pkg") as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith(".pkg.partial-")
        assert not (tmp_path / "pkg").exists()
        (folder / "file").write_text("x")
    assert listed(tmp_path) == ["pkg"]
    assert (tmp_path / "pkg" / "file").read_text() == "x"


def test_the_umask_holds(tmp_path: Path) -> None:
    write(tmp_path / "pkg")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "pkg").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_an_exception(tmp_path: Path, exception: type[BaseException]) -> None:
    with pytest.raises(exception), staged(tmp_path / "pkg"):
        raise exception
    assert listed(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_nothing_is_left_after_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    process, folder = hold(tmp_path / "pkg")
    assert folder.is_dir()
    process.send_signal(number)
    assert process.wait(10) in (128 + number, -number)
    assert listed(tmp_path) == []


def test_the_folder_of_a_killed_process_goes_with_the_next_build(tmp_path: Path) -> None:
    process, folder = hold(tmp_path / "pkg")
    process.kill()
    process.wait(10)
    assert folder.is_dir()
    assert not (tmp_path / "pkg").exists()
    write(tmp_path / "pkg")
    assert listed(tmp_path) == ["pkg"]


def test_the_folder_of_a_living_process_stays(tmp_path: Path) -> None:
    process, folder = hold(tmp_path / "pkg")
    write(tmp_path / "pkg")
    assert (folder / "model.onnx").read_text() == "half"
    process.terminate()
    process.wait(10)
    assert listed(tmp_path) == ["pkg"]


def test_a_package_lost_between_two_renames_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "pkg", "old")
    (tmp_path / "pkg").rename(tmp_path / ".pkg.replaced-1234")
    with pytest.raises(ValueError, match="stop"), staged(tmp_path / "pkg", force=True):
        raise ValueError("stop")
    assert listed(tmp_path) == ["pkg"]
    assert (tmp_path / "pkg" / "model.onnx").read_text() == "old"


def test_an_existing_package_needs_force(tmp_path: Path) -> None:
    write(tmp_path / "pkg", "old")
    with pytest.raises(InputError, match="--force"):
        write(tmp_path / "pkg")
    assert (tmp_path / "pkg" / "model.onnx").read_text() == "old"
    write(tmp_path / "pkg", force=True)
    assert listed(tmp_path) == ["pkg"]
    assert (tmp_path / "pkg" / "model.onnx").read_text() == "new"


def test_an_existing_package_outlives_a_failure(tmp_path: Path) -> None:
    write(tmp_path / "pkg", "old")
    with pytest.raises(ValueError, match="stop"), staged(tmp_path / "pkg", force=True):
        raise ValueError("stop")
    assert (tmp_path / "pkg" / "model.onnx").read_text() == "old"


def test_another_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    with pytest.raises(InputError, match="was not made by trtbert"):
        write(tmp_path / "photos", force=True)
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "cat"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    write(tmp_path / "pkg")
    assert (tmp_path / "pkg" / "model.onnx").read_text() == "new"


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "pkg").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        write(tmp_path / "pkg", force=True)


def test_a_missing_parent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mkdir -p .*missing"):
        write(tmp_path / "missing" / "pkg")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write to")
def test_a_parent_that_cannot_be_written() -> None:
    with pytest.raises(InputError, match="Cannot write in /proc"):
        write(Path("/proc/self/pkg"))


def test_what_appears_during_the_work_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"exists already.*--force"), staged(tmp_path / "pkg") as folder:
        (folder / "model.onnx").write_text("second")
        write(tmp_path / "pkg", "first")
    assert listed(tmp_path) == ["pkg"]
    assert (tmp_path / "pkg" / "model.onnx").read_text() == "first"
    with pytest.raises(InputError, match="was not made by trtbert"), staged(tmp_path / "photos", force=True):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat.jpg").write_text("cat")
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "cat"


FULL = {
    "a write": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "a quota": OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    "numpy": OSError("problem writing element 2048 to file"),
    "numpy, contiguous": OSError("4096 requested and 2048 written"),
    "a library": RuntimeError("I/O error: No space left on device (os error 28)"),
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space is left") as raised, staged(tmp_path / "pkg"):
        raise FULL[name]
    assert raised.value.exit_code == 2
    assert listed(tmp_path) == []


@pytest.mark.parametrize("error", [OSError("no errno"), OSError(errno.EIO, "I/O error"), RuntimeError("a bug")], ids=str)
def test_another_error_is_not_called_a_full_disk(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised, staged(tmp_path / "pkg"):
        raise error
    assert raised.value is error


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False, capture_output=True).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("step", [1, 2], ids=["contiguous", "strided"])
def test_a_disk_that_is_full(step: int, small_disk: Path) -> None:
    array = np.zeros(1 << 18, np.float32)[::step]
    with pytest.raises(InputError, match="No space is left"), staged(small_disk / "pkg") as folder, (folder / "weights").open("wb") as file:
        array.tofile(file)
    assert listed(small_disk) == []


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File name too long"):
        write(tmp_path / ("p" * 300))


def test_it_works_outside_the_main_thread(tmp_path: Path) -> None:
    thread = threading.Thread(target=write, args=(tmp_path / "pkg",))
    thread.start()
    thread.join()
    assert (tmp_path / "pkg" / "model.onnx").exists()
