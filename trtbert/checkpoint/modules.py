"""The modules.json of a sentence-transformers folder -> its modules, the folder of the encoder, and its limits."""

from pathlib import Path, PurePosixPath

from trtbert.checkpoint.json_file import read_json, read_object
from trtbert.errors import InputError

MODULES = "modules.json"


def read_modules(folder: Path) -> list[tuple[str, Path]]:
    """(class name, folder) of each module, in order; empty where `folder` is no sentence-transformers model."""
    path = folder / MODULES
    if not path.is_file():
        return []
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(m, dict) and {"type", "path"} <= m.keys() for m in modules):
        raise InputError(f"{path} must be a list of modules, each with a type and a path. Save the model again with sentence-transformers.")
    return [(str(m["type"]).rsplit(".", 1)[-1], _inside(folder, str(m["path"]))) for m in modules]


def encoder_folder(folder: Path) -> Path:
    """Where config.json and the weights are: some models keep them in the folder of the first module."""
    modules = read_modules(folder)
    if modules and not (folder / "config.json").is_file():
        return modules[0][1]
    return folder


def has_pooling(folder: Path) -> bool:
    return any(kind == "Pooling" for kind, _ in read_modules(folder))


def max_seq_length(folder: Path) -> int | None:
    """The limit in sentence_bert_config.json, if there is one."""
    path = folder / "sentence_bert_config.json"
    value = read_object(path).get("max_seq_length") if path.is_file() else None
    return value if isinstance(value, int) else None


def _inside(folder: Path, relative: str) -> Path:
    if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts:
        raise InputError(f"{folder.name}/{MODULES} names the path {relative!r}; only paths inside the folder are allowed.")
    return folder / relative
