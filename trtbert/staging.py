"""An output path -> a dot folder beside it to build in, renamed into place as the last step."""

import errno
import fcntl
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trtbert.errors import InputError, TrtbertError
from trtbert.signals import termination_raises

logger = logging.getLogger(__name__)

_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAYS_FULL = re.compile(r"No space left on device|problem writing element \d+ to file|\d+ requested and \d+ written")
"""What C++ and Rust writers say of a full disk, and numpy's tofile, which loses the errno."""


@contextmanager
def staged(output: Path, *, force: bool, is_replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """Give a new folder `.NAME.partial-PID-XXXX` beside `output`; it becomes `output` when the block ends without an exception.

    On any exception, KeyboardInterrupt and (in the main thread) SIGTERM and SIGHUP included, the folder is removed. After SIGKILL
    the dot folder stays; the next call for the same output removes it. An existing `output` needs `force` and must be an empty
    folder or `is_replaceable`, also when it appeared during the block; it is replaced only after success.
    Raises InputError for an output that cannot be written or must not be replaced, and when the disk is full.
    """
    output = output.resolve()
    try:
        check_output(output, force, is_replaceable)
        _remove_stale(output)
    except OSError as error:
        raise InputError(f"{output} cannot be the output: {error.strerror}. Choose another output.") from error
    folder, lock = _locked_folder(output)
    try:
        with termination_raises():
            yield folder
            check_output(output, force, is_replaceable)
            _rename_into_place(folder, output)
    except TrtbertError:
        raise
    except Exception as error:
        if _is_full(error):
            raise InputError(f"No space is left for {output} ({error}). Free some space, or write to another disk.") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _is_full(error: BaseException) -> bool:
    """Whether a full disk raised `error`; how much space is left tells nothing, because a writer that fails removes its file first."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _IS_FULL
    return _SAYS_FULL.search(str(error)) is not None or (error.__cause__ is not None and _is_full(error.__cause__))


def check_output(output: Path, force: bool, is_replaceable: Callable[[Path], bool]) -> None:
    """Raise InputError for an output that cannot be written or must not be replaced; see `staged`."""
    if not output.name:
        raise InputError(f"{output} cannot be the output; give a folder name.")
    if not output.parent.is_dir():
        raise InputError(f"The folder {output.parent} of the output does not exist. Create it first: mkdir -p {output.parent}")
    if not output.exists():
        return
    if not output.is_dir():
        raise InputError(f"{output} is a file, and the output is a folder. Choose another output.")
    if not any(output.iterdir()):
        return
    if not force:
        raise InputError(f"{output} exists already. Choose another output, or replace it with --force.")
    if not is_replaceable(output):
        raise InputError(f"{output} was not made by trtbert, so --force does not replace it. Choose another, or remove it yourself.")


def _locked_folder(output: Path) -> tuple[Path, int]:
    """A new folder and the descriptor of its lock, which the kernel gives up when this process dies."""
    while True:
        folder = output.with_name(f".{output.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            folder.mkdir()
        except OSError as error:
            raise InputError(f"Cannot write in {output.parent}: {error.strerror}. Choose another output.") from error
        lock = try_lock(folder)
        if lock is not None and folder.exists():
            return folder, lock
        if lock is not None:  # Another process took it for a stale one before the lock was ours.
            os.close(lock)


def try_lock(folder: Path) -> int | None:
    """A descriptor that holds the lock of `folder`; None when a living process holds it or the folder is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_stale(output: Path) -> None:
    """Remove the folders of killed processes, and put a package back that was killed between its two renames."""
    for folder in list(output.parent.iterdir()):
        if folder.name.startswith(f".{output.name}.partial-") and (lock := try_lock(folder)) is not None:
            logger.info("Removing %s, left by a process that was killed", folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
        elif folder.name.startswith(f".{output.name}.replaced-"):
            if output.exists():
                shutil.rmtree(folder, ignore_errors=True)
            else:
                folder.rename(output)


def _rename_into_place(folder: Path, output: Path) -> None:
    if not output.exists() or not any(output.iterdir()):
        folder.rename(output)
        return
    old = output.with_name(f".{output.name}.replaced-{secrets.token_hex(4)}")
    output.rename(old)
    try:
        folder.rename(output)
    except BaseException:
        old.rename(output)
        raise
    shutil.rmtree(old, ignore_errors=True)
