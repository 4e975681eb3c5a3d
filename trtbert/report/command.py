"""`trtbert report`: its flags, and what it runs."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trtbert.benchmark.config import BenchmarkConfig
from trtbert.errors import InputError, MissingRuntimeError
from trtbert.flags import to_path
from trtbert.output_files import check_file, write_file
from trtbert.package import check_outside, open_package

Progress = Callable[[str, int, int | None], None]


def add_report(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="packages -> one HTML page of what was done and what to trust",
        description="Say of each package what every stage did, how it was verified, what INT8 cost and how to repeat it; "
        "several packages are compared. The page needs no network.",
        epilog="example:\n  trtbert report my-package -o report.html --measure",
    )
    command.add_argument("packages", type=to_path, nargs="+", metavar="PKG")
    command.add_argument("-o", "--output", type=to_path, required=True, metavar="FILE.html", help="page to write")
    command.add_argument("--json", type=to_path, metavar="FILE.json", help="write the same facts as JSON")
    command.add_argument(
        "--measure", action="store_true", help="time the packages on this machine, as `trtbert benchmark` does; some minutes"
    )
    command.add_argument("--force", action="store_true", help="replace files that are there")
    command.set_defaults(interrupted="interrupted; no report was written")
    return command


def run_report(parsed: argparse.Namespace, on_progress: Progress) -> list[str]:
    """The lines to print."""
    outputs = [parsed.output, *filter(None, [parsed.json])]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError(f"The page and the JSON cannot both be written to {parsed.output}. Give --json another file.")
    return write_report(
        parsed.packages, parsed.output, json_output=parsed.json, is_measured=parsed.measure, force=parsed.force, on_progress=on_progress
    )


def check_report(output: Path, *, force: bool, package: Path) -> None:
    """Raise before a compilation what its report would raise after it; `package` is the folder that it will make."""
    _renderer()
    if output.resolve().is_relative_to(package.resolve()) and (output.resolve().parent != package.resolve() or output.suffix != ".html"):
        raise InputError(
            f"--report {output} would be the package {package} itself, or may be one of its own files. Choose "
            f"{package / 'report.html'}, or a file outside."
        )
    check_file(output, force=force, coming=package)


def write_report(
    paths: Sequence[Path], output: Path, *, json_output: Path | None = None, is_measured: bool, force: bool, on_progress: Progress
) -> list[str]:
    """Write the page, and the JSON where it is asked for; gives the lines that say so.

    Raises PackageError for what is no package, InputError for an output that is there, MissingRuntimeError without jinja2.
    """
    from trtbert.report.facts import report_facts

    render = _renderer()
    outputs = [output, *filter(None, [json_output])]
    packages = [open_package(path) for path in paths]
    check_outside(outputs)
    for path in outputs:
        check_file(path, force=force)
    measurement = None
    if is_measured:
        from trtbert.benchmark.run import benchmark

        measurement = benchmark(packages, BenchmarkConfig(), on_progress=on_progress)
    facts = report_facts(packages, measurement, page=output)
    texts = [render(facts), json.dumps(facts, indent=2, allow_nan=False) + "\n"]  # Both are made before either is written.
    for path, text in zip(outputs, texts, strict=False):
        write_file(path, text, force=force)
    return [f"wrote {path}" for path in outputs]


def _renderer() -> Callable[[Any], str]:
    try:
        from trtbert.report.page import render
    except ModuleNotFoundError as error:
        raise MissingRuntimeError(f"The report needs {error.name!r}, which is not installed: pip install 'trtbert[report]'") from error
    return render
