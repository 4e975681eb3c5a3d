"""The command line: each command parses its arguments, calls one function and prints what came of it."""

import argparse
import dataclasses
import io
import json
import logging
import os
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from trtbert.benchmark.command import add_benchmark, run_benchmark
from trtbert.completion import SHELLS, commands_of
from trtbert.config import (
    CalibrationMethod,
    CompileConfig,
    CompressConfig,
    LoweringName,
    Metric,
    Place,
    Pooling,
    Precision,
    Quantize,
    Runtime,
    SearchConfig,
    StepConfig,
    Target,
    TrainingConfig,
    config_from_mapping,
    dotted,
)
from trtbert.describe import compression_lines, describe_package, figure_lines
from trtbert.embed.command import add_embed, run_embed
from trtbert.errors import ConfigError, InputError, MissingRuntimeError, TrtbertError
from trtbert.flags import add_flags, config_from_flags, flag_name, flag_of, given, to_path
from trtbert.package import Package, open_package
from trtbert.parser import Parser, did_you_mean
from trtbert.report.command import add_report, check_report, run_report, write_report
from trtbert.serve.command import add_serve
from trtbert.signals import INTERRUPTED, interrupt_ends, termination_raises
from trtbert.tasks import TASKS
from trtbert.triton.command import add_triton, run_triton
from trtbert.version import __version__

_LONGEST_SHOWN = 200
_MEMORY = "Compiling BERT-base takes up to 3 GB. Close other programs, predict fewer texts at once, or use a larger machine."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 done, 2 bad input, 3 not supported, 4 verification failed, 5 runtime missing."""
    parsed = argparse.Namespace()
    try:
        _print_in_every_locale()
        _check_working_directory()
        with _prints_to_the_end():
            with interrupt_ends():
                parsed = _parse(arguments)
            logging.basicConfig(level=logging.INFO if parsed.verbose else logging.ERROR, format="%(name)s: %(message)s", stream=sys.stderr)
            with termination_raises():
                parsed.command(parsed)
    except TrtbertError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if (extra := _extra_of(error.name)) is None:
            raise
        print(f"error: this command needs {error.name!r}, which is not installed: pip install 'trtbert[{extra}]'", file=sys.stderr)
        return MissingRuntimeError.exit_code
    except FileNotFoundError as error:
        if not str(error.strerror).startswith("No usable temporary directory"):
            raise
        print(f"error: {error.strerror}. Set TMPDIR to a folder that can be written.", file=sys.stderr)
        return InputError.exit_code
    except KeyboardInterrupt:
        nothing = "interrupted; no half-written package was left behind" if "output" in parsed else "interrupted"
        print(getattr(parsed, "interrupted", nothing), file=sys.stderr)
        return INTERRUPTED
    except MemoryError as error:
        print(f"error: the memory is used up ({error or 'MemoryError'}). {_MEMORY}", file=sys.stderr)
        return InputError.exit_code
    return 0


def _print_in_every_locale() -> None:
    """A path or label that the locale cannot show is shown with backslashes, and fails nothing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _check_working_directory() -> None:
    """Libraries that are imported in one that was deleted may end the process."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise InputError("The working directory was deleted. Change to another one.") from error


def _extra_of(module: str | None) -> str | None:
    """The extra of trtbert that installs a module."""
    from trtbert.doctor import LIBRARIES

    name = str(module).partition(".")[0]
    return next((library.extra for library in LIBRARIES if library.module.partition(".")[0] == name), None)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The parsed command; argparse by itself takes no texts after an option: predict PKG --json TEXT."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = _parser(words)
    if not words:
        parser.exit(ConfigError.exit_code, parser.format_help())
    parsed, rest = parser.parse_known_args(arguments)
    if rest and ("texts" not in parsed or any(text.startswith("-") for text in rest)):
        parsed.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        parsed.texts = [*parsed.texts, *rest]
    return parsed


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = Parser(
        prog="trtbert",
        description="Compile BERT-family encoders into small, fast, verified packages.",
        epilog='example:\n  trtbert compile my-model/ -o my-package\n  trtbert predict my-package "Where is my parcel?"',
    )
    parser.add_argument("--version", action="version", version=f"trtbert {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (
        _add_compile,
        _add_compress,
        _add_build,
        _add_verify,
        _add_predict,
        _add_inspect,
        add_serve,
        _add_triton,
        _add_report,
        _add_benchmark,
        _add_embed,
        _add_doctor,
        _add_completion,
    ):
        command = add(commands)
        if add is _add_compress and list(arguments[:1]) == ["compress"]:
            _add_method(command, arguments)
        command.add_argument("--verbose", action="store_true", help="log what each stage does, on stderr")
        command.set_defaults(parser=command)
        for action in command._actions:
            if action.metavar == "PKG" and action.help is None:
                action.help = "package folder, as `trtbert compile` writes it"
    return parser


def _add_compile(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "compile",
        help="model folder or .onnx file -> package",
        description="Export, fuse, convert and build a model, and verify every stage against it.",
        epilog="example:\n  trtbert compile my-model/ -o my-package --target sm75 --batch-size 1 8 32 --seq-len 1 64 256",
    )
    command.add_argument("model", type=to_path, help="Hugging Face folder, or a .onnx file of an encoder")
    command.add_argument("-o", "--output", type=to_path, required=True, metavar="PKG", help="package folder to write")
    command.add_argument("--task", choices=["auto", *TASKS], help="default: what the checkpoint says")
    command.add_argument("--target", choices=get_args(Target), help="default: cpu")
    command.add_argument("--runtime", choices=["auto", *get_args(Runtime)], help="default: what fits the target")
    command.add_argument("--precision", choices=["auto", *get_args(Precision)], help="default: fp32 for cpu, fp16 for GPUs")
    command.add_argument(
        "--lowering",
        choices=["auto", *get_args(LoweringName)],
        help="of the fused nodes in TensorRT; default: plugin for sm70, else native",
    )
    command.add_argument(
        "--packed", action="store_true", default=None, help="compute no padding inside the encoder; with --lowering plugin"
    )
    command.add_argument(
        "--batch-size", nargs=3, type=int, action="append", metavar=("MIN", "OPT", "MAX"), help="of an engine; repeat for more profiles"
    )
    command.add_argument(
        "--seq-len", nargs=3, type=int, action="append", metavar=("MIN", "OPT", "MAX"), help="tokens of an engine's inputs; repeat likewise"
    )
    command.add_argument(
        "--tokenizer", type=to_path, metavar="DIR", help="tokenizer folder of a .onnx file; default: the file's own folder"
    )
    command.add_argument(
        "--pooling", choices=["auto", *get_args(Pooling)], help="of sentence embeddings; default: what the model says, else mean"
    )
    _add_int8(command.add_argument_group("INT8, with --precision int8"))
    command.add_argument(
        "--allow-unfused", action="store_true", default=None, help="go on where a fusion did not fire; the manifest records it"
    )
    command.add_argument("--config", type=to_path, metavar="FILE.toml", help="options as a [compile] table; the command line wins")
    command.add_argument("--dump", type=to_path, metavar="DIR", help="keep the graph of every stage: 01-export.onnx ...")
    command.add_argument("--report", type=to_path, metavar="FILE.html", help="also write the page of `trtbert report`")
    command.add_argument("--force", action="store_true", help="replace a package that is there, and its report")
    command.set_defaults(command=_compile)
    return command


def _add_int8(group: Any) -> None:
    group.add_argument(
        "--calibration-data",
        type=to_path,
        metavar="FILE",
        help="texts like those the model will see: .txt, .csv, .tsv, .jsonl, .conll; default: those that come with trtbert",
    )
    group.add_argument("--text-column", metavar="NAME", help="column of the texts; default: text, sentence, question ...")
    group.add_argument("--calibration-size", type=int, metavar="N", help="texts that are drawn from a larger file; default: 512")
    group.add_argument(
        "--calibration-method", choices=get_args(CalibrationMethod), help="how thresholds are chosen; auto measures; default: entropy"
    )
    group.add_argument(
        "--calibration-cache",
        type=to_path,
        metavar="FILE",
        help="calibration.cache in an INT8 package of the same model: repeat its calibration",
    )
    group.add_argument(
        "--quantize", choices=get_args(Quantize), help="GEMMs of the ffn, all (linear), or attention too (full); default: linear"
    )
    group.add_argument(
        "--smooth", action=argparse.BooleanOptionalAction, default=None, help="SmoothQuant; default: where it measures better"
    )
    group.add_argument(
        "--quantize-embeddings", action=argparse.BooleanOptionalAction, default=None, help="INT8 rows of the word embedding; default: yes"
    )
    group.add_argument("--max-drop", type=float, metavar="POINTS", help="percent points that INT8 may cost; sensitive layers stay in float")
    group.add_argument("--eval-data", type=to_path, metavar="FILE", help="labelled examples, or texts, for --max-drop")
    group.add_argument("--metric", choices=["auto", *get_args(Metric)], help="of --eval-data; default: what fits the task, else fidelity")


def _add_compress(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "compress",
        help="model folder -> smaller model folder",
        description="Make a model smaller by one method, or by the steps of a recipe; compile the result with `trtbert compile`. "
        "The flags of a method are shown by: trtbert compress --method NAME --help",
        epilog="example:\n  trtbert compress my-model/ -o smaller --method heads --sparsity 0.4 --data train.csv --eval-data test.csv",
        allow_abbrev=False,
    )
    command.add_argument("model", type=to_path, help="Hugging Face folder")
    command.add_argument("-o", "--output", type=to_path, required=True, metavar="DIR", help="model folder to write")
    how = command.add_mutually_exclusive_group(required=True)
    how.add_argument("--method", metavar="NAME", help="one of those below")
    how.add_argument(
        "--recipe", type=to_path, metavar="FILE.toml", help="steps as [[step]] tables, what they share, and how to compile the result"
    )
    how.add_argument("--search", action="store_true", help="find the smallest model within --max-drop and --target-latency")
    command.add_argument("--task", choices=["auto", *TASKS], help="default: what the checkpoint says")
    command.add_argument("--data", type=to_path, metavar="FILE", help="labelled examples; a .txt file holds texts without labels")
    command.add_argument("--texts", type=to_path, metavar="FILE", help="texts without labels, to distil and to measure on")
    command.add_argument("--text-column", metavar="NAME", help="column of the texts; default: text, sentence, question ...")
    command.add_argument("--teacher", type=to_path, metavar="DIR", help="model to learn from; default: the model as it came")
    command.add_argument("--eval-data", type=to_path, metavar="FILE", help="labelled examples held back: the best epoch on them is kept")
    command.add_argument("--metric", choices=["auto", *get_args(Metric)], help="of --eval-data; default: what fits the task")
    command.add_argument("--force", action="store_true", help="replace a compressed model that is there")
    kept = "no half-written model was left behind; the same command goes on with what training saved, a search starts anew"
    command.set_defaults(command=_compress, interrupted=f"interrupted; {kept}")
    return command


def _add_method(command: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """The flags of the search, or of the method that `arguments` name: each has its own."""
    from trtbert.compress import METHODS

    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--method")
    finder.add_argument("--search", action="store_true")
    finder.add_argument("--recipe")
    found = finder.parse_known_args(list(arguments))[0]
    methods = "\n".join(f"  {name:<12} {method.summary}" for name, method in METHODS.items())
    command.epilog = f"methods:\n{methods}\n\n{command.epilog}"
    if found.search:
        add_flags(command.add_argument_group("search"), SearchConfig)
    elif found.method is not None:
        if found.method not in METHODS:
            near = did_you_mean(found.method, list(METHODS))
            choose = f"{near} Choose" if near else "; choose"
            raise ConfigError(f"There is no compression method {found.method!r}{choose} one of:\n{methods}")
        method = METHODS[found.method]
        add_flags(command.add_argument_group(f"{found.method}: {method.summary}"), method.options)
    if found.search or (found.recipe is not None if found.method is None else METHODS[found.method].is_trained):
        add_flags(command.add_argument_group("training"), TrainingConfig)


def _add_build(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "build",
        help="build kit -> package, on the machine with the GPU",
        description="Build the engine of a build kit, which `trtbert compile` writes where it has no GPU to build with.",
        epilog="example:\n  trtbert build my-package.build-kit -o my-package",
    )
    command.add_argument("kit", type=to_path, metavar="KIT", help="the build kit's folder")
    command.add_argument("-o", "--output", type=to_path, required=True, metavar="PKG", help="package folder to write")
    command.add_argument("--force", action="store_true", help="replace a package that is there")
    command.set_defaults(command=_build)
    return command


def _add_verify(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "verify",
        help="package against its source model",
        description="Run the package and the model that it was compiled from on the same batches and compare the answers.",
        epilog="example:\n  trtbert verify my-package",
    )
    command.add_argument("package", type=to_path, metavar="PKG")
    command.add_argument("model", nargs="?", type=to_path, help="where the source model lies now; default: where it was compiled from")
    command.add_argument("--tokenizer", type=to_path, metavar="DIR", help="likewise the tokenizer folder of a .onnx file")
    command.set_defaults(command=_verify)
    return command


def _add_predict(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "predict",
        help="texts -> answers, as JSON lines",
        description="Answer each TEXT, or each line of standard input when there is none, with one line of JSON.",
        epilog='example:\n  trtbert predict my-package "Where is my parcel?"\n'
        '  trtbert predict qa-package --json \'{"question": "Who?", "context": "Ada."}\'',
    )
    command.add_argument("package", type=to_path, metavar="PKG")
    command.add_argument("texts", nargs="*", default=[], metavar="TEXT", help="default: the lines of standard input")
    command.add_argument("--json", action="store_true", help='every text is JSON: "a text", ["a text", "its pair"] or an object')
    command.set_defaults(command=_predict)
    return command


def _add_inspect(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "inspect",
        help="what is in a package or an .onnx file",
        description="Show target, shapes, nodes, fusions and precision, and why a fusion did not fire.",
        epilog="example:\n  trtbert inspect model.onnx",
    )
    command.add_argument("path", type=to_path, metavar="PKG-or-ONNX", help="package folder, or a file that ends in .onnx")
    command.set_defaults(command=_inspect)
    return command


def _add_doctor(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="what this machine can compile for and run",
        description="Look at hardware, libraries, compilers and plugins, and say which targets this machine can compile for and run, "
        "and what to install for the others.",
        epilog="example:\n  trtbert doctor --json | jq .routes",
    )
    command.add_argument("--json", action="store_true", help="all of it as JSON")
    command.set_defaults(command=_doctor)
    return command


def _add_completion(commands: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        "completion",
        help="script that completes commands and flags in a shell",
        description="Print a script that completes commands, flags, their choices and files. "
        "New shells read it from the file of the example; that of zsh must lie in a folder of $fpath.",
        epilog="example:\n"
        "  trtbert completion bash > ~/.local/share/bash-completion/completions/trtbert\n"
        "  trtbert completion zsh > ~/.zfunc/_trtbert\n"
        "  trtbert completion fish > ~/.config/fish/completions/trtbert.fish",
    )
    command.add_argument("shell", choices=SHELLS, help="the shell that reads the script")
    command.set_defaults(command=_completion)
    return command


def _add_embed(commands: Any) -> argparse.ArgumentParser:
    command = add_embed(commands)
    command.set_defaults(command=_embed)
    return command


def _add_triton(commands: Any) -> argparse.ArgumentParser:
    command = add_triton(commands)
    command.set_defaults(command=_triton)
    return command


def _add_report(commands: Any) -> argparse.ArgumentParser:
    command = add_report(commands)
    command.set_defaults(command=_report)
    return command


def _add_benchmark(commands: Any) -> argparse.ArgumentParser:
    command = add_benchmark(commands)
    command.set_defaults(command=_benchmark)
    return command


def _compile(parsed: argparse.Namespace) -> None:
    config = _compile_config(parsed)
    if parsed.report is not None:
        check_report(parsed.report, force=parsed.force, package=parsed.output)
    from trtbert.pipeline import compile

    with _progress() as (on_stage, on_progress):
        package = compile(
            parsed.model, parsed.output, config, dump=parsed.dump, force=parsed.force, on_stage=on_stage, on_progress=on_progress
        )
        shown = {"is_measured": False, "force": parsed.force, "on_progress": on_progress}
        lines = [] if parsed.report is None else write_report([parsed.output], parsed.report, **shown)
    _print_package(package)
    _print(lines)


def _compress(parsed: argparse.Namespace) -> None:
    with _progress() as (on_stage, on_progress):
        shown = {"force": parsed.force, "on_stage": on_stage, "on_progress": on_progress}
        if parsed.search:
            from trtbert.search import search

            options, training = config_from_flags(parsed, SearchConfig), config_from_flags(parsed, TrainingConfig)
            done = search(parsed.model, parsed.output, _shared(parsed), options, training, **shown)
        else:
            from trtbert.compression import compress, is_main

            done = compress(parsed.model, parsed.output, _compress_config(parsed), **shown)
            if not is_main():
                return
    _print(compression_lines(done.path, done.facts))
    if done.package is not None:
        _print_package(done.package)


def _shared(parsed: argparse.Namespace) -> dict[str, Any]:
    """The fields of CompressConfig that have flags; --steps is one of a method."""
    return {name: value for name, value in given(parsed, CompressConfig).items() if name != "steps"}


def _compress_config(parsed: argparse.Namespace) -> CompressConfig:
    if parsed.recipe is not None:
        flags = config_from_flags(parsed, TrainingConfig).model_dump(exclude_unset=True)
        return config_from_mapping(
            _read_recipe(parsed.recipe, flags) | _shared(parsed), CompressConfig, name=f"{parsed.recipe}", shown=_in_recipe
        )
    from trtbert.compress import METHODS

    method = METHODS[parsed.method]
    options = config_from_flags(parsed, method.options).model_dump(exclude_unset=True)
    training = config_from_flags(parsed, TrainingConfig) if method.is_trained else TrainingConfig()  # Others have a --seed of their own.
    return CompressConfig(steps=(StepConfig(method=parsed.method, training=training, **options),), **_shared(parsed))


def _read_recipe(path: Path, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of CompressConfig. Steps are [[step]] tables; what [training] and then the `flags` say holds for every step that says
    nothing else, and [compile] is what the result is compiled with."""
    content = _read_toml(path)
    steps, training, compiled = content.pop("step", []), content.pop("training", {}), content.get("compile", {})
    is_list = isinstance(steps, list) and bool(steps) and all(isinstance(step, dict) for step in steps)
    if not is_list or not all(isinstance(table, dict) for table in (training, compiled, *(step.get("training", {}) for step in steps))):
        raise ConfigError(
            f"{path} must hold one or more [[step]] tables, each with a method, and may hold a [training] and a [compile] table."
        )
    config_from_mapping(training, TrainingConfig, name=f"The table [training] of {path}")
    return content | {"steps": [step | {"training": {**training, **flags, **step.get("training", {})}} for step in steps]}


def _in_recipe(place: Place) -> str:
    """The key, and which of the [[step]] tables holds it."""
    if place[0] != "steps":
        return dotted(place)
    return ", ".join(["step" if len(place) == 1 else f"step {int(place[1]) + 1}", *filter(None, [dotted(place[2:])])])


def _compile_config(parsed: argparse.Namespace) -> CompileConfig:
    content = None if parsed.config is None else _read_table(parsed.config, "compile")
    flags = given(parsed, CompileConfig)
    if profiles := _profiles(parsed.batch_size, parsed.seq_len):
        flags["profiles"] = profiles
    if content is None:
        return config_from_mapping(flags, name="The command line", shown=flag_of)
    return config_from_mapping(content | flags, shown=lambda place: flag_of(place) if place[0] in flags else dotted(place))


def _read_table(path: Path, table: str) -> dict[str, Any]:
    content = _read_toml(path)
    options = content.get(table)
    if not isinstance(options, dict) or set(content) != {table}:
        raise ConfigError(f"{path} must hold one table [{table}], and it has {sorted(content)}.")
    return options


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no TOML, or a number of thousands of digits.
        raise ConfigError(f"The configuration file {path} cannot be read: {error}. It must be TOML in UTF-8.") from error


def _profiles(batch_sizes: list[list[int]] | None, seq_lens: list[list[int]] | None) -> list[dict[str, Any]]:
    """One profile for each pair of ranges; a single range goes with all of the other's."""
    num = max(len(batch_sizes or []), len(seq_lens or []))
    for name, ranges in (("--batch-size", batch_sizes), ("--seq-len", seq_lens)):
        if ranges is not None and len(ranges) not in (1, num):
            raise ConfigError(f"{name} is given {len(ranges)} times and the other range {num} times; give one, or as many as profiles.")

    def named(key: str, ranges: list[list[int]] | None, index: int) -> dict[str, Any]:
        if ranges is None:
            return {}
        low, opt, high = ranges[index % len(ranges)]
        return {key: {"min": low, "opt": opt, "max": high}}

    return [named("batch_size", batch_sizes, index) | named("seq_len", seq_lens, index) for index in range(num)]


def _build(parsed: argparse.Namespace) -> None:
    from trtbert.pipeline import build

    _print_package(build(parsed.kit, parsed.output, force=parsed.force))


def _verify(parsed: argparse.Namespace) -> None:
    from trtbert.pipeline import verify_package

    with _progress() as (on_stage, _):
        _print(figure_lines(verify_package(parsed.package, parsed.model, tokenizer=parsed.tokenizer, on_stage=on_stage)))


def _predict(parsed: argparse.Namespace) -> None:
    from trtbert.predictor import load

    predictor = load(parsed.package)
    lines = parsed.texts or _stdin_lines()
    texts = [_from_json(line) for line in lines] if parsed.json else lines
    _print(json.dumps(_plain(answer), ensure_ascii=not _shows_unicode()) for answer in predictor.predict(texts))


def _shows_unicode() -> bool:
    """Whether standard output takes every character; elsewhere JSON escapes them and stays JSON."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")


def _stdin_lines() -> list[str]:
    if sys.stdin is None:
        raise InputError("Standard input is closed. Give the texts as arguments, or one on each line of standard input.")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict")
    try:
        return [line.rstrip("\n") for line in sys.stdin]
    except UnicodeDecodeError as error:
        raise InputError(f"Standard input is not UTF-8 ({error}). Save the texts as UTF-8.") from error


def _from_json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, or a number of thousands of digits.
        shown = line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]}..."
        raise InputError(f"--json needs JSON for every text, and this cannot be read: {shown!r} ({error})") from error


def _plain(answer: Any) -> Any:
    """Arrays as lists, for JSON."""
    return answer.tolist() if hasattr(answer, "tolist") else answer


def _doctor(parsed: argparse.Namespace) -> None:
    from trtbert.doctor import describe, examine

    machine = examine()
    _print([json.dumps(dataclasses.asdict(machine), indent=2)] if parsed.json else describe(machine))


def _completion(parsed: argparse.Namespace) -> None:
    from trtbert.completion import completion_script

    _print([completion_script(_every_flag(), parsed.shell)])


def _every_flag() -> argparse.ArgumentParser:
    """The parser with the flags of all methods, where the libraries are installed that they need."""
    parser = _parser([])
    with suppress(ModuleNotFoundError):
        from trtbert.compress import METHODS

        command = commands_of(parser)["compress"]
        models: list[type[BaseModel]] = [SearchConfig, TrainingConfig, *(method.options for method in METHODS.values())]
        for model in models:
            known = {name for name in model.model_fields if flag_name(name) in command._option_string_actions}
            add_flags(command, model, without=known)
        command._option_string_actions["--method"].choices = list(METHODS)
    return parser


def _embed(parsed: argparse.Namespace) -> None:
    with _progress() as (_, on_progress):
        lines = run_embed(parsed, on_progress)
    _print(lines)


def _triton(parsed: argparse.Namespace) -> None:
    _print(run_triton(parsed))


def _report(parsed: argparse.Namespace) -> None:
    with _progress() as (_, on_progress):
        lines = run_report(parsed, on_progress)
    _print(lines)


def _benchmark(parsed: argparse.Namespace) -> None:
    with _progress() as (_, on_progress):
        lines = run_benchmark(parsed, on_progress)
    _print(lines)


def _inspect(parsed: argparse.Namespace) -> None:
    is_file = parsed.path.is_file()
    if parsed.path.suffix == ".onnx" and not parsed.path.exists():
        raise InputError(f"{parsed.path} does not exist. Check the path.")
    if parsed.path.suffix == ".onnx" and is_file:
        from trtbert.inspection import describe_onnx

        lines = describe_onnx(parsed.path)
    elif is_file:
        raise InputError(f"{parsed.path} is neither a package nor an ONNX model. Give a package folder or a file that ends in .onnx.")
    else:
        package = open_package(parsed.path)
        lines = describe_package(package) + _nodes(package)
    _print(lines)


def _nodes(package: Package) -> list[str]:
    """The nodes of an ONNX engine by type, where the library that reads them is installed."""
    if package.manifest.runtime != "onnxruntime":
        return []
    try:
        from trtbert.inspection import node_counts
    except ModuleNotFoundError:
        return ["nodes  unknown here; pip install 'trtbert[compile]' to see them"]
    return node_counts(package.engine_path)


def _print_package(package: Package) -> None:
    size = sum(file.stat().st_size for file in package.path.rglob("*") if file.is_file())
    _print([*describe_package(package), f"wrote {package.path} ({size / 1e6:.1f} MB)"])


@contextmanager
def _prints_to_the_end() -> Iterator[None]:
    """What the block prints, or argparse before it exits, is written when the block ends, so that whatever fails fails there."""
    try:
        yield
    except SystemExit:
        _print([])
        raise
    _print([])


def _print(lines: Iterable[str]) -> None:
    """Print the lines to the end, so that whatever fails fails here; a reader that went away (| head) is no failure."""
    try:
        print("".join(f"{line}\n" for line in lines), end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where the interpreter's last flush then goes
        if not isinstance(error, BrokenPipeError):
            raise InputError(f"Standard output cannot be written: {error.strerror}. Send it to another file or disk.") from error


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str], None], Callable[[str, int, int | None], None]]]:
    """Functions that show the stage that runs and how far it is, on stderr when that is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":  # rich leaves an empty line on the latter
        yield (lambda stage: None), (lambda what, num_done, num_steps: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("starting", total=None, count="")

        def on_progress(what: str, num_done: int, num_steps: int | None) -> None:
            count = f"{num_done} of {num_steps}" if num_steps else ""
            progress.update(bar, description=what, completed=num_done, total=num_steps, count=count)

        yield (lambda stage: on_progress(stage, 0, None)), on_progress
