"""`trtbert benchmark`: its flags, and what it runs."""

import argparse
import json
from typing import Any

from trtbert.benchmark.config import BenchmarkConfig
from trtbert.errors import InputError
from trtbert.flags import add_flags, config_from_flags, to_path
from trtbert.output_files import check_file, write_file
from trtbert.package import check_outside, open_package


def add_benchmark(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "benchmark",
        help="latency and throughput of packages beside their source models",
        description="Time packages on this machine, beside PyTorch, ONNX Runtime and OpenVINO with the model that they were compiled from, "
        "each in a process of its own, in turn. Answers are compared first.",
        epilog="example:\n  trtbert benchmark my-package --against torch --batch-sizes 1,8 -o result.json",
    )
    command.add_argument("packages", type=to_path, nargs="+", metavar="PKG")
    add_flags(command, BenchmarkConfig)
    command.add_argument("-o", "--output", type=to_path, metavar="FILE.json", help="write all of it as JSON")
    command.add_argument("--plot", type=to_path, metavar="FILE.svg", help="draw latency by length, and throughput by batch size")
    command.add_argument("--force", action="store_true", help="replace files that are there")
    command.set_defaults(interrupted="interrupted; no result was written")
    return command


def run_benchmark(parsed: argparse.Namespace, on_progress: Any) -> list[str]:
    """The lines to print."""
    config = config_from_flags(parsed, BenchmarkConfig)
    if parsed.plot is not None and parsed.plot.suffix != ".svg":
        raise InputError(f"The plot is an SVG, and --plot {parsed.plot} does not end in .svg. Give it such a name.")
    outputs = [path for path in (parsed.output, parsed.plot) if path is not None]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError(f"The JSON and the plot cannot both be written to {parsed.plot}. Give --plot another file.")
    packages = [open_package(path) for path in parsed.packages]
    check_outside(outputs)
    for path in outputs:
        check_file(path, force=parsed.force)
    from trtbert.benchmark.plot import draw
    from trtbert.benchmark.run import benchmark
    from trtbert.benchmark.table import lines

    facts = benchmark(packages, config, on_progress=on_progress)
    if parsed.output is not None:
        write_file(parsed.output, json.dumps(facts, indent=2, allow_nan=False) + "\n", force=parsed.force)
    if parsed.plot is not None:
        write_file(parsed.plot, draw(facts), force=parsed.force)
    return [*lines(facts), *(f"wrote {path}" for path in outputs)]
