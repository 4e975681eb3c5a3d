"""Measure what `trtbert compile` costs beside the bare torch.onnx export, and the start and the size of what runs the package."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from models import TITLES, find_minilm, write_bert, write_bert_base
from processes import Cost, cold_start, median_cost, run_in_turn, script_command, torch_cold_start, trtbert_command
from rich.console import Console
from rich.table import Table
from tables import TARGET_MISSED, cost_table, folder_bytes, make_console, print_machine, print_verdict

MINILM_SECONDS, BASE_SECONDS, BASE_GB, COLD_SECONDS, INSTALL_MB = 20, 45, 3, 1.5, 300
SIZES = ((6, 384), (12, 384), (12, 768), (24, 1024))
"""Layers and width: the first has MiniLM's size, the third is BERT-base's, the last BERT-large's."""
EXPORT, COMPILE = "bare torch.onnx export (dynamo)", "trtbert compile"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/compile_cost.py --runs 3 --install")
    parser.add_argument("--model", choices=("real", "base", "sizes", "all"), default="all", help="MiniLM, BERT-base size, growth by size")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="of each command, interleaved; default: %(default)s")
    parser.add_argument("--install", action="store_true", help="also measure `pip install .` in a fresh environment: about a minute")
    arguments = parser.parse_args()
    console = make_console()
    print_machine(console)
    verdicts: list[bool] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.model in ("real", "all"):
            verdicts += measure_minilm(console, folder, arguments.runs)
        if arguments.model in ("base", "all"):
            verdicts += measure_base(console, folder, arguments.runs)
        if arguments.model in ("sizes", "all"):
            console.print(growth_table(folder, arguments.runs))
        if arguments.install:
            size = installed_bytes(folder / "venv", Path(__file__).parent.parent) / 1e6
            verdicts.append(print_verdict(console, "plain install", size, INSTALL_MB, "MB"))
    return 0 if all(verdicts) else TARGET_MISSED


def measure_minilm(console: Console, folder: Path, runs: int) -> list[bool]:
    model, package = find_minilm(), folder / "minilm"
    cost = measure_costs(console, TITLES["real"], model, package, runs)
    cold_starts = [(cold_start(package), torch_cold_start(model)) for _ in range(5)]
    ours, torchs = (statistics.median(times) for times in zip(*cold_starts, strict=True))
    console.print(f"Fresh process to first answer, median of 5: package {ours:.2f} s, torch and transformers {torchs:.2f} s")
    return [
        print_verdict(console, "compile MiniLM", cost.seconds, MINILM_SECONDS, "s"),
        print_verdict(console, "cold start of MiniLM", ours, COLD_SECONDS, "s"),
    ]


def measure_base(console: Console, folder: Path, runs: int) -> list[bool]:
    model = write_bert_base(folder / "base-model")
    cost = measure_costs(console, TITLES["base"], model, folder / "base", runs)
    return [
        print_verdict(console, "compile BERT-base size", cost.seconds, BASE_SECONDS, "s"),
        print_verdict(console, "its peak memory", cost.peak_bytes / 1e9, BASE_GB, "GB"),
    ]


def growth_table(folder: Path, runs: int) -> Table:
    """The cost of compiling BERTs of random weights, by their size."""
    caption = f"random weights, FP32, CPU target; median seconds and largest memory of {runs} run(s)"
    table = Table(title="trtbert compile, by the size of the model", caption=caption)
    for heading in ("layers x width", "weights, MB", "seconds", "CPU seconds", "peak GB", "peak by weights"):
        table.add_column(heading, justify="right")
    for num_layers, width in SIZES:
        model = write_bert(folder / f"model-{num_layers}-{width}", num_layers=num_layers, hidden_size=width)
        command = trtbert_command("compile", model, "-o", folder / "growing", "--force")
        cost = median_cost(run_in_turn({COMPILE: command}, runs)[COMPILE])
        size = (model / "model.safetensors").stat().st_size
        numbers = (f"{size / 1e6:.0f}", f"{cost.seconds:.1f}", f"{cost.cpu_seconds:.1f}", f"{cost.peak_bytes / 1e9:.2f}")
        table.add_row(f"{num_layers} x {width}", *numbers, f"{cost.peak_bytes / size:.1f}")
    return table


def measure_costs(console: Console, title: str, model: Path, package: Path, runs: int) -> Cost:
    """Print the table; gives the median seconds and the largest memory of the compilation. The package is left in its place."""
    commands = {
        EXPORT: script_command("plain_export.py", model, package.with_suffix(".onnx")),
        COMPILE: trtbert_command("compile", model, "-o", package, "--force"),
    }
    costs = run_in_turn(commands, runs)
    console.print(cost_table(title, costs, "fp32, CPU target"))
    return median_cost(costs[COMPILE])


def installed_bytes(environment: Path, project: Path) -> int:
    """Bytes of all that `pip install .` puts into an empty environment."""
    venv.create(environment, with_pip=False, symlinks=True)
    before = folder_bytes(environment)
    command = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "--quiet", str(project)]
    subprocess.run(command, check=True)
    return folder_bytes(environment) - before


if __name__ == "__main__":
    sys.exit(main())
