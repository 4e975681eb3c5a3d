"""The fields of a pydantic model -> flags of an argparse command, and the model of what was given of them."""

import argparse
import errno
import os
from collections.abc import Collection
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trtbert.config import Place, config_from_mapping

_Model = TypeVar("_Model", bound=BaseModel)
_NO_PATH = {
    errno.ELOOP: "is a symlink that leads back to itself; make it anew, or give another path",
    errno.ENAMETOOLONG: "is longer than the file system allows, which is 255 bytes for most names; give a shorter one",
}
"""What is wrong with a path, by the number of the system's error; other errors depend on what the path is for."""


def add_flags(group: Any, model: type[BaseModel], *, without: Collection[str] = ()) -> None:
    """One flag for each field: `target_sparsity` is --target-sparsity; its help is the field's docstring and its default.

    The items of a list are separated by commas, but paths by spaces, as a shell's patterns give them.
    """
    for name, field in model.model_fields.items():
        if name not in without:
            group.add_argument(flag_name(name), default=None, help=_help(field), **_kind(field.annotation))


def to_path(text: str) -> Path:
    """The `type` of every argument that is a path; refuses one that no command can use."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; give a folder or a file")
    try:
        os.fsencode(os.path.realpath(text)).decode()
        Path(text).stat()
    except UnicodeDecodeError as error:
        raise argparse.ArgumentTypeError(f"the path {error.object!r} is no UTF-8; rename the file or folder in it that is none") from error
    except OSError as error:
        if reason := _NO_PATH.get(error.errno or 0):
            raise argparse.ArgumentTypeError(f"the path {text} {reason}") from error
    return Path(text)


def flag_name(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def flag_of(place: Place) -> str:
    """The flag that gave the value: that of ("profiles", 0, "batch_size") is --batch-size."""
    return flag_name([part for part in place if isinstance(part, str)][-1])


def given(parsed: argparse.Namespace, model: type[BaseModel]) -> dict[str, Any]:
    """The fields that the command line names."""
    return {name: value for name in model.model_fields if (value := getattr(parsed, name, None)) is not None}


def config_from_flags(parsed: argparse.Namespace, model: type[_Model]) -> _Model:
    """`model` of what the command line names; a ConfigError lists every flag that is wrong."""
    return config_from_mapping(given(parsed, model), model, name="The command line", shown=flag_of)


def _help(field: FieldInfo) -> str:
    text = (field.description or "").split("\n\n")[0].replace("\n", " ").strip().rstrip(".").replace("%", "%%")
    has_none = field.is_required() or field.default in (None, "", ())
    default = "" if has_none else f"default: {_shown(field.get_default(call_default_factory=True))}"
    return "; ".join(part for part in (text, default) if part)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else f"{value}"


def _kind(annotation: Any) -> dict[str, Any]:
    """What argparse must know of a field's type."""
    origin, arguments = get_origin(annotation), [a for a in get_args(annotation) if a is not NoneType]
    if origin in (Union, UnionType):
        return _kind(arguments[0]) if len(arguments) == 1 else {"type": str}
    if origin is Literal:
        return {"choices": list(arguments)}
    if origin is Annotated:
        return _kind(arguments[0])
    if origin in (list, tuple):
        item = _kind(arguments[0])
        is_path = item.get("type") is to_path
        return item | {"nargs": "+"} if is_path else {"type": _comma_list, "metavar": f"{item.get('metavar', 'NAME')},..."}
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if annotation is Path:
        return {"type": to_path, "metavar": "PATH"}
    if annotation in (int, float, str):
        return {"type": annotation, "metavar": {int: "N", float: "X", str: "NAME"}[annotation]}
    return {"type": str}


def _comma_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]
