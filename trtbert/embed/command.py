"""`trtbert embed`: its flags, and what it runs."""

import argparse
import contextlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from trtbert.embed.config import EmbedConfig
from trtbert.errors import MissingRuntimeError
from trtbert.flags import add_flags, config_from_flags, to_path


def add_embed(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "embed",
        help="files of texts -> files of answers, on Ray",
        description="Write every row of Parquet, JSONL or CSV files with a package's answer beside it, in the same order, on this machine "
        "or on a Ray cluster. The same command goes on with a run that was killed.",
        epilog="example:\n  trtbert embed reviews.parquet -o vectors --package my-embedder --text-column review",
    )
    command.add_argument(
        "inputs", type=to_path, nargs="+", metavar="INPUT", help="files, patterns, or folders, all .parquet, .jsonl or .csv"
    )
    command.add_argument("-o", "--output", type=to_path, required=True, metavar="OUTPUT", help="folder to write")
    command.add_argument("--package", type=to_path, required=True, metavar="PKG", help="package folder, on every machine under this path")
    add_flags(command, EmbedConfig, without={"package"})
    command.add_argument("--force", action="store_true", help="replace an output that is there, and drop an unfinished one of other inputs")
    command.set_defaults(interrupted="interrupted; the same command goes on from there")
    return command


def run_embed(parsed: argparse.Namespace, on_progress: Callable[[str, int, int | None], None]) -> list[str]:
    """The lines to print."""
    config = config_from_flags(parsed, EmbedConfig)
    for name in ("pyarrow", "ray"):  # Looked for, not imported: Ray reads the environment that is yet to be set.
        if importlib.util.find_spec(name) is None:
            raise MissingRuntimeError(f"This command needs {name!r}, which is not installed: pip install 'trtbert[ray]'")
    from trtbert.embed.run import embed
    from trtbert.embed.summary import summary_lines

    with contextlib.redirect_stdout(sys.stderr):  # Ray prints there that a worker died.
        summary = embed([*map(str, parsed.inputs)], parsed.output, config, force=parsed.force, on_progress=on_progress)
    return summary_lines(summary, parsed.output)
