"""A manifest -> the commands that repeat what the report shows."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trtbert.package import Manifest


def compile_command(manifest: Manifest, package: Path) -> str | None:
    """Into a new folder beside the package; None for a package of before the options were recorded."""
    if not manifest.nodes:
        return None
    return shlex.join(["trtbert", "compile", manifest.source.path, "-o", f"{package.resolve()}-again", *_flags(manifest.options)])


def _flags(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        flag = name.replace("_", "-")
        if name == "profiles":
            for profile in value:
                yield from _range("--batch-size", profile.get("batch_size"))
                yield from _range("--seq-len", profile.get("seq_len"))
        elif isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        elif value is not None:
            yield from (f"--{flag}", str(value))


def _range(flag: str, sizes: Mapping[str, int] | None) -> Iterator[str]:
    if sizes is not None:
        yield from (flag, *(str(sizes[name]) for name in ("min", "opt", "max")))
