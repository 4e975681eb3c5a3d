"""The INPUT arguments -> the files they mean, in the order in which their rows come."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trtbert.errors import InputError

SUFFIXES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class InputFile:
    """A file as it was when the run was planned."""

    path: str
    size: int
    mtime_ns: int


def find_inputs(arguments: Sequence[str], output: Path) -> list[InputFile]:
    """Files as they are named; those that a pattern fits, and those of a folder and its folders, sorted by path.

    InputError for what is not there, holds no such file, is given twice, has another suffix or suffixes that differ.
    """
    paths = [path for argument in arguments for path in _find(argument, output.resolve())]
    if twice := [path for path, num in Counter(paths).items() if num > 1]:
        raise InputError(f"{twice[0]} is given twice, so that its rows would be; give each file once.")
    suffixes = sorted({path.suffix.lower() for path in paths})
    if not set(suffixes) <= set(SUFFIXES):
        odd = next(path for path in paths if path.suffix.lower() not in SUFFIXES)
        raise InputError(f"{odd} must end in one of {', '.join(SUFFIXES)}, which says how it is read. Save it as one of these.")
    if len(suffixes) > 1:
        raise InputError(f"The inputs are of several formats, {' and '.join(suffixes)}; run the command for each of them.")
    return [_facts(path) for path in paths]


def check_unchanged(inputs: Sequence[InputFile]) -> None:
    """InputError for a file that is another than it was."""
    for file in inputs:
        if _facts(Path(file.path)) != file:
            raise InputError(f"{file.path} changed while it was read. Run the command again, with --force, once it stays as it is.")


def _find(argument: str, output: Path) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        if output.is_relative_to(path.resolve()):
            raise InputError(f"The output {output} lies in the input folder {argument}; choose another output.")
        found = sorted(file for file in _files(path) if file.suffix.lower() in SUFFIXES and file.is_file())
        if not found:
            raise InputError(f"{argument} holds no file that ends in one of {', '.join(SUFFIXES)}. Check the path.")
    elif path.is_file():
        found = [path]
    elif path.exists():
        raise InputError(f"{argument} is no plain file; give files or folders.")
    else:
        names = glob.glob(argument, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern.
        found = sorted(Path(name) for name in names if Path(name).is_file())
        if not found:
            raise InputError(f"{argument} does not exist, and as a pattern fits no file. Check the path.")
    return [file.resolve() for file in found]


def _files(folder: Path) -> Iterator[Path]:
    """Those in it and its folders, linked ones too, but for names that begin with a dot or an underscore. Each folder counts once."""
    seen = set[Path]()
    for name, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        folders[:] = [] if Path(name).resolve() in seen else [each for each in folders if each[0] not in "._"]
        if Path(name).resolve() not in seen:
            yield from (Path(name, each) for each in files if each[0] not in "._")
        seen.add(Path(name).resolve())


def _refuse(error: OSError) -> None:
    raise InputError(f"The folder {error.filename} cannot be read: {error.strerror}. Check its permissions.") from error


def _facts(path: Path) -> InputFile:
    try:
        facts = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from error
    return InputFile(str(path), facts.st_size, facts.st_mtime_ns)
