"""The README and the docs say what is there: commands parse, tests exist, links lead somewhere."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from tests.docs import DOCS, PAGES, ROOT, blocks, commands
from trtbert import cli


def _commands() -> list[str]:
    """Every trtbert command in a code block."""
    lines = [command.text for page in PAGES for block in blocks(page) if not block.language for command in commands(block)]
    return [line for line in lines if line.startswith("trtbert ")]


def test_there_are_commands() -> None:
    assert len(_commands()) > 50


@pytest.mark.parametrize("command", _commands())
def test_commands_parse(command: str) -> None:
    cli._parse(shlex.split(command)[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", ["bad-inputs.md", "security.md"])
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    names = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS / page).read_text())
    assert len(names) > 15
    for file, name in names:
        functions = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{file} has no test {name}"
