"""A folder, or the name of a model on the Hugging Face hub -> a local folder."""

import re
from pathlib import Path

import huggingface_hub

from trtbert.errors import InputError

_HUB_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_FILES = ("*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model")
"""Data only: no pickles, no code."""


def find_model(model: Path) -> Path:
    """The folder itself, or a snapshot of the hub; InputError where there is neither."""
    if model.is_dir():
        return model
    if model.exists():
        raise InputError(f"{model} is neither a folder nor an .onnx file. Give a Hugging Face model folder, or a file that ends in .onnx.")
    name = model.as_posix()
    if not _HUB_NAME.fullmatch(name) or set(name) <= {"."}:
        raise InputError(f"{model} does not exist. Give a Hugging Face model folder, the name of a model on the hub, or an .onnx file.")
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:  # offline, unknown name, no access: each has its own class, and httpx adds more
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"{name} is no folder here, and it could not be fetched from the Hugging Face hub ({reason}). "
            "Check the spelling, or copy the model folder to this machine and give its path."
        ) from error
