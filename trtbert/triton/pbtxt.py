"""Nested values -> a protobuf in its text format."""

from collections.abc import Iterator, Mapping
from typing import Any


class Word(str):
    """The name of an enum's value, which stands without quotes."""


def to_text(fields: Mapping[str, Any]) -> str:
    """A mapping is a message, a list a repeated field of them or of plain values; text is quoted, ASCII alone."""
    return "".join(f"{line}\n" for line in _lines(fields))


def _lines(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        messages = [value] if isinstance(value, Mapping) else value
        if not isinstance(messages, list) or not messages or not isinstance(messages[0], Mapping):
            yield f"{name}: {_plain(value)}"
            continue
        for message in messages:
            yield f"{name} {{"
            yield from (f"  {line}" for line in _lines(message))
            yield "}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and not isinstance(value, Word):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return '"' + "".join(c if " " <= c <= "~" else "".join(f"\\{byte:03o}" for byte in c.encode()) for c in escaped) + '"'
    return str(value)
