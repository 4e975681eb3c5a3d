"""A parser -> the script that completes its commands, flags, choices and files in a shell."""

import argparse
from typing import Any

SHELLS = ("bash", "zsh", "fish")
_PATHS = ("DIR", "FILE", "INPUT", "KIT", "OUTPUT", "PATH", "PKG", "REPO")


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """`shell` is one of SHELLS."""
    import shtab

    for choice in _commands_action(parser)._choices_actions:
        commands_of(parser)[choice.dest].description = choice.help  # A list of commands has no room for more.
    for command in (parser, *commands_of(parser).values()):
        for action in command._actions:
            if _is_path(action):
                action.complete = shtab.FILE
    return shtab.complete(parser, shell)


def commands_of(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The parsers of the commands by their names."""
    return dict(_commands_action(parser).choices)


def _commands_action(parser: argparse.ArgumentParser) -> Any:
    return next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def _is_path(action: argparse.Action) -> bool:
    """Folders are among the files; a metavar says what a path is: FILE.toml, DIR."""
    named = action.metavar if isinstance(action.metavar, str) else ""
    return action.dest == "model" or named.startswith(_PATHS)
