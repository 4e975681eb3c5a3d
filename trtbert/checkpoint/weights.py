"""A checkpoint folder -> its tensors: nothing is unpickled but plain tensors, and nothing is copied that can be mapped."""

import hashlib
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from trtbert.checkpoint.json_file import read_object
from trtbert.errors import InputError, UnsupportedError

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_LFS_POINTER = b"version https://git-lfs"
_CONVERT = "Convert the checkpoint to safetensors: model.save_pretrained(folder, safe_serialization=True)."


@dataclass(frozen=True, eq=False)
class Weights:
    """Every tensor of a checkpoint by its name in the file."""

    state: dict[str, torch.Tensor]
    files: tuple[Path, ...]


def sha256_of(files: Iterable[Path]) -> str:
    """Of `files`, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def read_weights(folder: Path) -> Weights:
    """Read the safetensors (one file or shards), else pytorch_model.bin as plain tensors; InputError says what is wrong."""
    files = _weight_files(folder)
    state: dict[str, torch.Tensor] = {}
    for path in files:
        state |= _read_file(path)
    if not state:
        raise InputError(f"{files[0]} holds no tensors. Download it or save the model again.")
    for name, tensor in state.items():
        _check_tensor(name, tensor, files)
    return Weights(state, files)


def _weight_files(folder: Path) -> tuple[Path, ...]:
    present = [folder / name for name in WEIGHT_FILES if os.path.lexists(folder / name)]
    found = next((path for path in present if path.is_file()), None)
    if found is None and present:
        raise InputError(f"{present[0]} is {_kind(present[0])}, not a plain file. Copy the weight file itself into the folder.")
    if found is None:
        others = sorted(p.name for p in folder.iterdir() if p.suffix in {".h5", ".msgpack", ".bin", ".pt", ".ckpt", ".safetensors"})
        raise InputError(
            f"{folder} holds no weights: one of {', '.join(WEIGHT_FILES)} is needed"
            + (f", but there is only {', '.join(others)}. {_CONVERT}" if others else ". Copy the weight file into the folder.")
        )
    return _shards(found) if found.name.endswith(".index.json") else (found,)


def _kind(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"a link to {str(path.readlink())!r}, where no file is"
    return "a folder" if path.is_dir() else "a pipe or a device"


def _shards(index: Path) -> tuple[Path, ...]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index} has no weight_map, so the shards are not known. Download it or save the model again.")
    names = sorted({str(name) for name in weight_map.values()})
    if outside := [name for name in names if Path(name).name != name]:
        raise InputError(f"{index} names shards outside its folder: {outside}. Only plain file names are allowed.")
    if missing := [name for name in names if not os.path.isfile(index.parent / name)]:  # noqa: PTH113  # Path.is_file may raise
        raise InputError(
            f"{len(missing)} of {len(names)} shards that {index.name} names are missing: {', '.join(missing[:3])}. Download them."
        )
    return tuple(index.parent / name for name in names)


def _read_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        with path.open("rb") as file:
            head = file.read(len(_LFS_POINTER))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from error
    if head == _LFS_POINTER:
        raise InputError(f"{path} is a Git LFS pointer, not the weights. Run 'git lfs pull' in the folder it was cloned into.")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_plain_tensors(path)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        size = path.stat().st_size
        raise InputError(f"{path} ({size} bytes) is not a whole safetensors file: {error}. Download it or save the model again.") from error


def _read_plain_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old pickle protocols: the errors below say enough
            state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, AttributeError, ImportError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path} was refused, and nothing in it was run: it is damaged, or a pickle of more than plain tensors "
            f"({reason[:200]}). {_CONVERT}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) and isinstance(k, str) for k, v in state.items()):
        raise InputError(f"{path} is not a state dict: names and tensors are expected, got {type(state).__name__}. {_CONVERT}")
    return state


def _check_tensor(name: str, tensor: torch.Tensor, files: tuple[Path, ...]) -> None:
    if tensor.dtype not in _FLOATS or torch.isfinite(tensor.sum()):  # one pass; a sum may overflow without a bad value
        return
    if bad := int((~torch.isfinite(tensor)).sum()):
        raise InputError(
            f"The tensor {name!r} in {', '.join(p.name for p in files)} holds {bad} NaN or infinite values of {tensor.numel()}. "
            "The training that wrote it diverged or the file is damaged; use an earlier checkpoint."
        )


def check_floats(wanted: Mapping[str, torch.Tensor]) -> None:
    """UnsupportedError where a tensor that the model computes with in float is not stored as one."""
    if narrow := [name for name, tensor in wanted.items() if tensor.dtype not in _FLOATS]:
        dtype = str(wanted[narrow[0]].dtype).removeprefix("torch.")
        raise UnsupportedError(
            f"This checkpoint is already quantised: {len(narrow)} of its weights are no floats ({narrow[0]} is {dtype}). "
            "Give the float model it was made from; float16, bfloat16, float32 and float64 are read."
        )
