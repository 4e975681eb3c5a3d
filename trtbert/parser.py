"""argparse's parser and help -> ones that fit the terminal and name the nearest flag."""

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, NoReturn

_LONGEST_CHOICES = 30


class Help(argparse.HelpFormatter):
    """Descriptions are wrapped; the lines of an epilog stay lines, and an example that is too long goes on in the next one.

    Long lists of choices stand in a flag's help, where they wrap, not in its name and in the usage, where they cannot.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "\n".join(folded for line in text.splitlines() for folded in _folded(line, width))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment  # argparse forgets that commands are indented

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Any:
        if action.metavar is None and _has_many_choices(action):
            return lambda size: (default_metavar,) * size
        return super()._metavar_formatter(action, default_metavar)

    def _expand_help(self, action: argparse.Action) -> str:
        text = super()._expand_help(action)
        return (
            f"{text}; one of {', '.join(map(str, action.choices or ()))}" if action.metavar is None and _has_many_choices(action) else text
        )


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one message and what to try, as all others of the command line are."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"formatter_class": Help, **options})
        self._given: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        hints = "".join(f" Did you mean {flag} in place of {name}?" for name, flag in self._mistyped())
        end = "" if message.endswith("?") else "."
        self.exit(2, f"error: {message}{end}{hints} See: {self.prog} --help\n")

    def _mistyped(self) -> list[tuple[str, str]]:
        """The flags that were given and that there are not, each with the nearest that there is."""
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        given = takewhile(lambda word: word.startswith("-") if self._subparsers else word != "--", self._given)
        names = [word.split("=")[0] for word in given if re.match("--?[a-zA-Z][a-zA-Z-]", word)]
        unknown = [name for name in names if name not in flags and not (self.allow_abbrev and any(flag.startswith(name) for flag in flags))]
        words = [flag.removeprefix("--") for flag in flags]  # dashes are what all flags share: with them --epochs is near --steps
        near = {name: get_close_matches(name.lstrip("-").lower(), words, 1) for name in unknown}
        return [(name, f"--{found[0]}") for name, found in near.items() if found]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            hint = did_you_mean(str(value), [str(choice) for choice in action.choices or ()])
            raise argparse.ArgumentError(action, f"{error.message}{hint}") from error


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A question to append to a message, where one of the known words is near; another number is another thing: sm87 is no sm89."""
    near = get_close_matches(word.lower(), [name for name in known if re.findall(r"\d", name) == re.findall(r"\d", word)], 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _has_many_choices(action: argparse.Action) -> bool:
    return action.choices is not None and len(",".join(map(str, action.choices))) > _LONGEST_CHOICES


def _folded(line: str, width: int) -> list[str]:
    """An example as a shell takes it over several lines, each but the first beginning with a flag."""
    if len(line) <= width or not line.startswith("  trtbert "):
        return [line]
    first, *flags = re.split(" (?=-)", line)
    lines = [first]
    for flag in flags:
        if len(f"{lines[-1]} {flag} \\") <= width:
            lines[-1] += f" {flag}"
        else:
            lines.append(f"      {flag}")
    return [f"{part} \\" for part in lines[:-1]] + lines[-1:]
