"""Tensor names and thresholds <-> TensorRT's calibration cache, with a sidecar of hashes.

The cache is a text file. This one holds a tensor of amax 127, so its scale amax / 127 is 1, as the hex digits of a big-endian float32:

    TRT-100300-EntropyCalibration2
    pooler input: 3f800000

Nothing in it tells which model it belongs to, so `PATH.json` beside it does.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trtbert.errors import InputError
from trtbert.version import __version__

_NUM_LEVELS = 127
_FIRST_LINE = re.compile(r"TRT-[0-9]+-EntropyCalibration2")
_LINE = re.compile(r"(.+): ([0-9a-f]{8})")
"""Name and scale. Greedy: the name ends at the last ": ", and may hold others."""
_ADVICE = "Calibrate again without the cache."


@dataclass(frozen=True)
class Identity:
    """What thresholds depend on: sha256 of the model, of the texts and of the tokenizer, the method, and the version of trtbert."""

    model: str
    data: str | None
    """None: of whatever texts; like `method`, only for reading."""
    tokenizer: str
    method: str | None
    trtbert: str = __version__
    task: str = ""
    """And whatever else of the graph the weights do not say."""


class _Sidecar(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    model: str
    data: str
    tokenizer: str
    method: str
    trtbert: str
    task: str = ""
    cache: str
    """sha256 of the cache file."""
    details_sha256: str
    details: dict[str, Any] = Field(default_factory=dict)
    """What the format has no place for, so that a calibration can be repeated from the cache."""


def write_cache(
    path: Path,
    thresholds: Mapping[str, float],
    identity: Identity,
    *,
    details: Mapping[str, Any] | None = None,
    tensorrt_version: str = "100300",
) -> None:
    """Write the amax of each tensor to `path`, then `path`.json, with `details` (JSON) in it; each is replaced in one step if it exists.

    `tensorrt_version` is 100300 for 10.3.0; TensorRT leaves a cache alone that its own version cannot use. Killed between the two files,
    this leaves a cache that `read_cache` refuses. Raises InputError for what the format cannot hold and for a path that cannot be written.
    """
    first_line = f"TRT-{tensorrt_version}-EntropyCalibration2"
    if not _FIRST_LINE.fullmatch(first_line):
        raise InputError(f"{tensorrt_version!r} is no version of TensorRT; give a number like 100300 for 10.3.0.")
    lines = (first_line, *(f"{name}: {_hex(name, amax)}" for name, amax in thresholds.items()))
    cache = "".join(f"{line}\n" for line in lines).encode()
    sidecar = _Sidecar(
        **asdict(identity), cache=hashlib.sha256(cache).hexdigest(), details_sha256=_sha256(details or {}), details=dict(details or {})
    )
    _replace(path, cache)
    _replace(_sidecar_path(path), f"{sidecar.model_dump_json(indent=2)}\n".encode())


def read_details(path: Path, identity: Identity) -> dict[str, Any]:
    """The details that the cache was written with; raises as `read_cache` does."""
    read_cache(path, identity)
    return _read_sidecar(path).details


def read_cache(path: Path, identity: Identity) -> dict[str, float]:
    """The amax of each tensor: exactly 127 times the float32 in the file, so that writing it again gives the same file.

    Raises InputError for a cache that does not belong to `identity`, that was altered, or that is none.
    """
    cache = _read(path)
    sidecar = _read_sidecar(path)
    _check_identity(path, sidecar, identity)
    if hashlib.sha256(cache).hexdigest() != sidecar.cache:
        raise InputError(f"{path} was altered: its sha256 is not the one in {_sidecar_path(path)}. {_ADVICE}")
    if _sha256(sidecar.details) != sidecar.details_sha256:
        raise InputError(f"{_sidecar_path(path)} was altered: its details have another sha256 than it says. {_ADVICE}")
    return _parsed(path, cache)


def _sha256(details: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(details, sort_keys=True).encode()).hexdigest()


def _sidecar_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _hex(name: str, amax: float) -> str:
    """The scale as it stands in the cache."""
    if not name or "\n" in name:
        raise InputError(f"A calibration cache cannot hold a tensor named {name!r}: a name is one line. Rename the tensor in the model.")
    with np.errstate(over="ignore"):
        scale = np.float32(amax / _NUM_LEVELS)
    if not _is_scale(float(scale)):
        raise InputError(f"A calibration cache cannot hold the threshold {amax} of {name!r}: its scale is to be finite and above 0.")
    return f"{int(scale.view(np.uint32)):08x}"


def _is_scale(scale: float) -> bool:
    return 0 < scale < float("inf")


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}. Choose another path for the calibration cache.") from error
    finally:
        with suppress(OSError):  # Of a path that cannot be written, the reason above is the one to tell.
            temporary.unlink()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"The calibration cache {path} cannot be read: {error.strerror}. {_ADVICE}") from error


def _read_sidecar(path: Path) -> _Sidecar:
    sidecar_path = _sidecar_path(path)
    if not sidecar_path.exists():
        raise InputError(
            f"{sidecar_path} is missing, so nothing says which model {path} belongs to: a calibration cache needs the file that trtbert "
            f"writes beside it, and one that TensorRT wrote has none. {_ADVICE}"
        )
    try:
        return _Sidecar.model_validate_json(_read(sidecar_path))
    except ValidationError as error:
        problems = "\n".join(f"  {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise InputError(f"{sidecar_path} does not describe a calibration cache:\n{problems}\n{_ADVICE}") from error


def _check_identity(path: Path, sidecar: _Sidecar, identity: Identity) -> None:
    expected, found = asdict(identity), sidecar.model_dump()
    differing = [field for field in expected if expected[field] is not None and found[field] != expected[field]]
    if differing:
        lines = "\n".join(f"  {field}: expected {expected[field]}, the cache has {found[field]}" for field in differing)
        raise InputError(f"{path} does not belong to this calibration, another {', '.join(differing)} made it:\n{lines}\n{_ADVICE}")


def _parsed(path: Path, cache: bytes) -> dict[str, float]:
    try:
        first_line, *lines = cache.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no calibration cache: it is not UTF-8 text ({error}). {_ADVICE}") from error
    if not _FIRST_LINE.fullmatch(first_line):
        raise InputError(
            f"{path} is no calibration cache: its first line is {first_line!r}, and not TRT-VERSION-EntropyCalibration2. {_ADVICE}"
        )
    thresholds: dict[str, float] = {}
    for number, line in enumerate(lines, start=2):
        name, amax = _parsed_line(line, f"Line {number} of {path}")
        if name in thresholds:
            raise InputError(f"Line {number} of {path} gives {name!r} a second scale. {_ADVICE}")
        thresholds[name] = amax
    return thresholds


def _parsed_line(line: str, place: str) -> tuple[str, float]:
    if not (match := _LINE.fullmatch(line)):
        raise InputError(f"{place} is {line!r}, and not a name, a colon, a space and 8 hex digits. {_ADVICE}")
    name, digits = match.groups()
    scale = float(np.uint32(int(digits, 16)).view(np.float32))
    if not _is_scale(scale):
        raise InputError(f"{place} gives {name!r} the scale {scale}; a scale is finite and above 0. {_ADVICE}")
    return name, scale * _NUM_LEVELS
