"""Fields of a model as flags of the command line."""

import argparse
import os
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from trtbert import cli
from trtbert.completion import _is_path, commands_of
from trtbert.compress.method import Options
from trtbert.flags import add_flags, given, to_path


class _Options(Options):
    target_sparsity: float = Field(default=0.5, gt=0)
    """The share that goes.

    And more.
    """
    kind: Literal["a", "b"] = "a"
    layers: tuple[int, ...] | None = None
    is_sure: bool = False
    teacher: Path | None = None
    """100 % of it"""


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    add_flags(made, _Options)
    return made


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (["--target-sparsity", "0.25"], {"target_sparsity": 0.25}),
        (["--layers", "0, 2", "--kind", "b"], {"layers": ["0", "2"], "kind": "b"}),
        (["--is-sure"], {"is_sure": True}),
        (["--no-is-sure", "--teacher", "x"], {"is_sure": False, "teacher": Path("x")}),
    ],
)
def test_only_what_was_given(parser: argparse.ArgumentParser, arguments: list[str], expected: dict[str, Any]) -> None:
    assert given(parser.parse_args(arguments), _Options) == expected


def test_help_is_the_docstring_and_the_default(parser: argparse.ArgumentParser) -> None:
    shown = parser.format_help()
    assert "The share that goes; default: 0.5" in shown and "And more" not in shown
    assert "100 % of it" in shown


def test_a_choice_that_there_is_not(parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["--kind", "c"])
    assert "invalid choice: 'c'" in capsys.readouterr().err


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("gone").symlink_to("nowhere")
    Path(os.fsdecode(b"b\xff")).mkdir()
    Path("link").symlink_to(os.fsdecode(b"b\xff"))


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("text", ["model", "a/b", "loop.txt", "gone", "x" * 255, "caf\u00e9", "someone/a-model"])
def test_a_path(text: str) -> None:
    assert to_path(text) == Path(text)


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the path is empty; give a folder or a file"),
        ("loop", "the path loop is a symlink that leads back to itself; make it anew, or give another path"),
        ("loop/model", "the path loop/model is a symlink that leads back to itself"),
        ("x" * 256, "the path xxx.* is longer than the file system allows, which is 255 bytes for most names; give a shorter one"),
        ("x/" * 3000, "is longer than the file system allows"),
        (os.fsdecode(b"b\xff/model"), r"the path b'.*/b\\xff/model' is no UTF-8; rename the file or folder in it that is none"),
        ("link/model", r"the path b'.*/b\\xff/model' is no UTF-8"),
    ],
    ids=["empty", "loop", "under a loop", "long name", "long path", "no UTF-8", "link to no UTF-8"],
)
def test_what_is_no_path(text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        to_path(text)


def test_every_path_of_the_command_line_is_checked() -> None:
    actions = [action for command in commands_of(cli._every_flag()).values() for action in command._actions]
    assert {action.type for action in actions if _is_path(action)} == {to_path}
    assert [action.dest for action in actions if action.type is to_path and not _is_path(action)] == []  # which a shell would not complete
