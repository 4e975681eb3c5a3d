"""`trtbert triton`: its flags, and what it runs."""

import argparse
from typing import Any

from trtbert.flags import to_path
from trtbert.package import Manifest
from trtbert.triton.repository import write_repository
from trtbert.triton.tensors import ENGINE_SUFFIX, inputs_of, outputs_of


def add_triton(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "triton",
        help="packages -> model repository of Triton",
        description="Write a model repository for NVIDIA Triton Inference Server: each package under the name of its folder, texts in and "
        "answers out as from `trtbert serve`. Triton starts from it as it is and installs nothing.",
        epilog="example:\n  trtbert triton my-package -o model-repository",
    )
    command.add_argument("packages", type=to_path, nargs="+", metavar="PKG")
    command.add_argument("-o", "--output", type=to_path, required=True, metavar="REPO", help="repository folder to write")
    command.add_argument("--force", action="store_true", help="replace a repository that is there")
    return command


def run_triton(parsed: argparse.Namespace) -> list[str]:
    """The lines to print."""
    packages = write_repository(parsed.packages, parsed.output, force=parsed.force)
    return [*(_line(name, package.manifest) for name, package in packages.items()), f"wrote {parsed.output}"]


def _line(name: str, manifest: Manifest) -> str:
    task, runtime = manifest.model.task, manifest.runtime
    tensors = (", ".join(field.name for field in fields) for fields in (inputs_of(task), outputs_of(task, 1)))
    return f"{name}: {' -> '.join(tensors)}; {name}{ENGINE_SUFFIX} needs {runtime} {manifest.versions.get(runtime, '')}".rstrip()
