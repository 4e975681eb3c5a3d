"""A text -> a new file, written beside it first and then renamed, so that no half of it is ever seen."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from trtbert.errors import InputError


def check_file(path: Path, *, force: bool, coming: Path | None = None) -> None:
    """Raise InputError where `write_file` would; `coming` is a folder that will be there by then."""
    if path.is_dir():
        raise InputError(f"{path} is a folder, and the output is a file. Choose another output.")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a device, a pipe or a socket, and a file would replace it. Choose another output.")
    if path.parent.resolve() != (coming and coming.resolve()) and not path.parent.is_dir():
        raise InputError(f"The folder {path.parent} of the output does not exist. Create it first: mkdir -p {path.parent}")
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: its folder is read-only. Choose another output.")
    if path.exists() and not force:
        raise InputError(f"{path} exists already. Choose another output, or replace it with --force.")


def write_file(path: Path, text: str, *, force: bool) -> None:
    """Raises InputError for a path that cannot be written, or is there and `force` is not given."""
    check_file(path, force=force)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}. Choose another output.") from error
    finally:
        with suppress(OSError):  # It is not there, or that it cannot be written is said already.
            temporary.unlink()
