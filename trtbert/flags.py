"""The fields of a pydantic model -> flags of an argparse command, and the model of what was given of them."""

import argparse
from collections.abc import Collection
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trtbert.config import Place, config_from_mapping

_Model = TypeVar("_Model", bound=BaseModel)


def add_flags(group: Any, model: type[BaseModel], *, without: Collection[str] = ()) -> None:
    """One flag for each field: `target_sparsity` is --target-sparsity; its help is the field's docstring and its default.

    The items of a list are separated by commas, but paths by spaces, as a shell's patterns give them.
    """
    for name, field in model.model_fields.items():
        if name not in without:
            group.add_argument(flag_name(name), default=None, help=_help(field), **_kind(field.annotation))


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
        is_path = item.get("type") is Path
        return item | {"nargs": "+"} if is_path else {"type": _comma_list, "metavar": f"{item.get('metavar', 'NAME')},..."}
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if annotation in (int, float, str, Path):
        return {"type": annotation, "metavar": {int: "N", float: "X", str: "NAME", Path: "PATH"}[annotation]}
    return {"type": str}


def _comma_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]
