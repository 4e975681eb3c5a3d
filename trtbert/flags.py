"""The fields of a pydantic model -> flags of an argparse command, and what was given of them."""

import argparse
from collections.abc import Collection
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def add_flags(group: Any, model: type[BaseModel], *, without: Collection[str] = ()) -> None:
    """One flag for each field: `target_sparsity` is --target-sparsity; its help is the field's docstring and its default."""
    for name, field in model.model_fields.items():
        if name not in without:
            group.add_argument(flag_name(name), default=None, help=_help(field), **_kind(field.annotation))


def flag_name(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def given(parsed: argparse.Namespace, model: type[BaseModel]) -> dict[str, Any]:
    """The fields that the command line names."""
    return {name: value for name in model.model_fields if (value := getattr(parsed, name, None)) is not None}


def _help(field: FieldInfo) -> str:
    text = (field.description or "").split("\n\n")[0].replace("\n", " ").strip().rstrip(".").replace("%", "%%")
    has_none = field.is_required() or field.default in (None, "")
    default = "" if has_none else f"default: {_shown(field.get_default(call_default_factory=True))}"
    return "; ".join(part for part in (text, default) if part)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else f"{value}"


def _kind(annotation: Any) -> dict[str, Any]:
    """What argparse must know of a field's type."""
    origin, arguments = get_origin(annotation), [a for a in get_args(annotation) if a is not NoneType]
    if origin in (Union, UnionType):
        return _kind(arguments[0]) if len(arguments) == 1 else {"type": str}
    if origin is Literal:
        return {"choices": list(arguments)}
    if origin in (list, tuple):
        return {"nargs": "+", **_kind(arguments[0])}
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if annotation in (int, float, str, Path):
        return {"type": annotation, "metavar": {int: "N", float: "X", str: "NAME", Path: "PATH"}[annotation]}
    return {"type": str}
