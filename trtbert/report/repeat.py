"""A manifest -> the commands that repeat what the report shows."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trtbert.builders.targets import resolve_profiles
from trtbert.config import Profile, Range
from trtbert.package import Manifest


def compile_command(manifest: Manifest, package: Path) -> str | None:
    """Into a new folder beside the package; None for a package of before the options were recorded."""
    if not manifest.nodes:
        return None
    flags = _flags(manifest.options, manifest.model.max_length)
    return shlex.join(["trtbert", "compile", manifest.source.path, "-o", f"{package.resolve()}-again", *flags])


def _flags(options: Mapping[str, Any], max_length: int) -> Iterator[str]:
    for name, value in options.items():
        flag = name.replace("_", "-")
        if name == "profiles":
            yield from _profile_flags(tuple(map(Profile.model_validate, value)), max_length)
        elif isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        elif value is not None:
            yield from (f"--{flag}", str(value))


def _profile_flags(profiles: Sequence[Profile], max_length: int) -> Iterator[str]:
    """Both ranges of each profile, or, where none of them has lengths, the batch sizes alone."""
    if any(profile.seq_len for profile in profiles):
        profiles = resolve_profiles(profiles, max_length)
    for profile in profiles:
        yield from _range("--batch-size", profile.batch_size)
        if profile.seq_len is not None:
            yield from _range("--seq-len", profile.seq_len)


def _range(flag: str, sizes: Range) -> Iterator[str]:
    yield from (flag, str(sizes.min), str(sizes.opt), str(sizes.max))
