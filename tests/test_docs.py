"""The README and the docs say what is there: commands parse, files, tests and attributes exist, links lead somewhere, tables hold."""

import argparse
import ast
import importlib.util
import json
import pkgutil
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import get_args

import pytest

import trtbert
from tests.docs import DOCS, PAGES, ROOT, anchors, blocks, commands, spans
from trtbert import cli
from trtbert.builders.targets import check_combination
from trtbert.config import Precision, Runtime, Target
from trtbert.errors import UnsupportedError
from trtbert.serve.endpoints import ENDPOINTS

_SHELLS = ("", "sh")
_COMMAND = re.compile(
    r"(?:\w+=\S+ )*(?:\./)?(?:\. |cmake|curl|docker|eval|kubectl|make|pip|pytest|python3?|torchrun|trtbert|\.venv/bin/\w+|[\w-]+/[\w./-]+) "
)
"""How a command begins; code of other kinds stands between backticks too."""
_PATH = re.compile(r"(?:\./)?(?:benchmarks|cpp|deploy|docker|docs|plugins|tests|trtbert)/[\w./-]+")


def _shown() -> list[str]:
    """The commands in blocks of a shell, each once."""
    lines = [command.text for page in PAGES for block in blocks(page) if block.language in _SHELLS for command in commands(block)]
    return [line for line in dict.fromkeys(lines) if _COMMAND.match(line)]


def _named() -> list[str]:
    """The commands in the text, each once; some leave out what the text is not about."""
    return [code for code in dict.fromkeys(code for page in PAGES for code in spans(page)) if _COMMAND.match(code)]


def test_there_are_commands() -> None:
    assert len([command for command in _shown() if command.startswith("trtbert ")]) > 50
    assert len(_named()) > 50


@pytest.mark.parametrize("command", _shown())
def test_a_command_parses(command: str) -> None:
    for words in _programs(command):
        arguments = _trtbert_arguments(words)
        if arguments is not None:
            cli._parse(arguments)
        _check_names(words)
        if words[0] == "curl":
            _check_request(words)


@pytest.mark.parametrize("command", _named())
def test_a_command_in_the_text_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in _programs(command):
        arguments = _trtbert_arguments(words)
        if arguments is not None:
            _check_named(list(takewhile(lambda word: word != "...", arguments)), capsys)
        _check_names(words)


@pytest.mark.parametrize(
    "command",
    [
        "make dmeo",
        "pip install '.[compres]'",
        "plugins/scripts/install-sm70-toolchian build/sm70-toolchain",
        "docker/build.sh serv",
        "python benchmarks/race.pi --model real",
        "python -m plugins.tools.kernel_reprot",
    ],
)
def test_a_wrong_name_is_found(command: str) -> None:
    (words,) = _programs(command)
    with pytest.raises(AssertionError):
        _check_names(words)


@pytest.mark.parametrize("command", ["curl localhost:8000/v1/embedings -d {}", "curl localhost:8000/v1/predict -d '{\"input\": []}'"])
def test_a_wrong_request_is_found(command: str) -> None:
    with pytest.raises(AssertionError):
        _check_request(shlex.split(command))


@pytest.mark.parametrize("command", ["trtbert compile --taget cuda", "trtbert embedings FILES", "trtbert compile MODEL --target cudda"])
def test_a_wrong_mention_is_found(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError):
        _check_named(shlex.split(command)[1:], capsys)


def test_programs_inside_of_others_are_found() -> None:
    assert list(_programs('A=1 eval "$(trtbert completion bash)" && make demo | tee log')) == [
        ["trtbert", "completion", "bash"],
        ["eval", "$(trtbert completion bash)"],
        ["make", "demo"],
        ["tee", "log"],
    ]
    assert _trtbert_arguments(shlex.split("docker run --rm trtbert:compile compile model")) == ["compile", "model"]
    assert _trtbert_arguments(shlex.split("docker run --entrypoint cat trtbert:compile file")) is None
    assert _trtbert_arguments(shlex.split("torchrun -m trtbert compress MODEL")) == ["compress", "MODEL"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert [link for link in re.findall(r"\]\(([^):]+)\)", page.read_text()) if not _leads_somewhere(page, link)] == []


def test_anchors_are_those_of_mkdocs(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# C++\n\n::: trtbert.load\n\n## A GPU: `make test`\n\n```\n# a comment\n```\n\n## See [int8](int8.md)\n\n## C\n")
    assert anchors(page) == {"c", "trtbert.load", "a-gpu-make-test", "see-int8", "c_1"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_attributes_in_python_are_there(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            _check_attributes(block.text)
    for name in [found for code in spans(page) for found in re.findall(r"\btrtbert(?:\.\w+)+", code)]:
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("program", ["trtbert.laod('p')", "model = trtbert.load('p')\nmodel.predickt(['a'])"])
def test_a_wrong_attribute_is_found(program: str) -> None:
    with pytest.raises(AssertionError):
        _check_attributes(program)


@pytest.mark.parametrize("page", ["bad-inputs.md", "security.md"])
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    names = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS / page).read_text())
    assert len(names) > 15
    for file, name in names:
        functions = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{file} has no test {name}"


@pytest.mark.parametrize("page", ["README.md", "docs/build.md", "docs/how-to/gpu-generations.md"])
def test_tables_of_targets_are_those_of_the_code(page: str) -> None:
    said: dict[Target, set[str]] = {}
    for line in re.findall(r"^\| .*`(?:cpu|cuda|sm\d+)`.*\|$", (ROOT / page).read_text().split("\n## Build kits")[0], re.MULTILINE):
        for target in (target for target in get_args(Target) if f"`{target}`" in line):
            said.setdefault(target, set()).update(re.findall(r"\b(?:fp32|fp16|bf16|int8)\b", line))
    assert said.keys() >= {target for target in get_args(Target) if target != "cpu"}
    assert said == {target: _precisions(target) for target in said}


def test_every_reason_of_a_miss_is_explained() -> None:
    page = (DOCS / "how-to/fusion-did-not-fire.md").read_text()
    reasons = [reason for file in sorted((ROOT / "trtbert/rewrite").glob("*.py")) for reason in _reasons(file)]
    assert len(reasons) > 25
    assert [reason for reason in reasons if reason not in page] == []


def _leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    file = page.parent / name if name else page
    return file.exists() and (not anchor or anchor in anchors(file))


def _programs(command: str) -> Iterator[list[str]]:
    """The words of each program that a shell would start, also inside of $(...), without the variables that are set for it."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= set(";&|"):
            if inner := re.fullmatch(r"\$\((.+)\)", word):
                yield from _programs(inner[1])
            words += [] if not words and re.match(r"\w+=", word) else [word]
        elif words:
            yield words
            words = []


def _trtbert_arguments(words: Sequence[str]) -> list[str] | None:
    """What follows trtbert, as a program, a module or an image; None where it is not what is started."""
    if words[0] == "trtbert":
        return list(words[1:])
    for before, name in (("-m", "trtbert"), ("", "trtbert:compile")):
        if name in words and "--entrypoint" not in words:
            place = words.index(name)
            if not before or words[place - 1] == before:
                return list(words[place + 1 :])
    return None


def _check_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Whether it parses but for arguments that are left out."""
    try:
        cli._parse(arguments)
    except SystemExit as end:
        message = capsys.readouterr().err
        assert end.code == 0 or "are required" in message or "expected" in message, message
        (subparsers,) = (action for action in cli._parser(arguments)._actions if isinstance(action, argparse._SubParsersAction))
        flags = {word for word in arguments if word.startswith("-")}
        assert flags <= subparsers.choices[arguments[0]]._option_string_actions.keys(), arguments


def _check_names(words: Sequence[str]) -> None:
    """Whether the files, modules, images, targets of make and extras that a command names are there."""
    missing = [word for word in words if _PATH.fullmatch(word) and not (ROOT / word).exists()]
    if words[0] == "docker/build.sh":
        missing += [name for name in words[1:2] if not (ROOT / f"docker/{name}.Dockerfile").is_file()]
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        missing += [word for word in words[1:] if "=" not in word and word not in targets]
    if "pip" in words:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        asked = [extra for word in words for group in re.findall(r"^(?:\.|trtbert)\[(.*)\]$", word) for extra in group.split(",")]
        missing += [extra for extra in asked if extra not in extras]
    if "-m" in words and re.search("python|torchrun", words[0]):
        module = words[words.index("-m") + 1]
        missing += [module] if importlib.util.find_spec(module) is None else []
    assert missing == []


def _check_request(words: Sequence[str]) -> None:
    """Whether the server has the address that curl is given, and takes the fields of the body."""
    address, body = words[1].removeprefix("localhost:8000"), words[words.index("-d") + 1]
    found = [endpoint for endpoint in ENDPOINTS if re.fullmatch(re.sub(r"{\w+}", "[^/]+", endpoint.path), address)]
    assert [endpoint.method for endpoint in found] == ["POST"], address
    assert found[0].request is not None
    assert json.loads(body).keys() <= found[0].request.model_fields.keys(), body


def _check_attributes(program: str) -> None:
    """Whether `trtbert` and what its `load` gives have the attributes that are taken of them."""
    tree = ast.parse(program)
    loads = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("trtbert.load(")]
    predictors = {target.id for node in loads for target in node.targets if isinstance(target, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = trtbert if node.value.id == "trtbert" else trtbert.Predictor if node.value.id in predictors else None
            assert owner is None or hasattr(owner, node.attr), ast.unparse(node)


def _precisions(target: Target) -> set[str]:
    """Those that some runtime takes."""
    return {precision for precision in get_args(Precision) for runtime in get_args(Runtime) if _is_allowed(target, runtime, precision)}


def _is_allowed(target: Target, runtime: Runtime, precision: Precision) -> bool:
    try:
        check_combination(target, runtime, precision)
    except UnsupportedError:
        return False
    return True


def _reasons(file: Path) -> Iterator[str]:
    """The text of every Miss that is raised, with "..." for what it fills in."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Miss":
            (text,) = node.args
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in parts)
