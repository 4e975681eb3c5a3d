"""Fields of a model as flags of the command line."""

import argparse
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from trtbert.compress.method import Options
from trtbert.flags import add_flags, given


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
