"""The options of a predict call, checked by the keyword-only parameters of the task's function."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from trtbert.errors import ConfigError


def check_options(task: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raises ConfigError for an option that the task's function does not take."""
    parameters = inspect.signature(function).parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if unknown := sorted(options.keys() - set(allowed)):
        raise ConfigError(f"{task} does not take the option {', '.join(unknown)}; it takes {', '.join(allowed) or 'none'}.")


def check_number(name: str, value: Any, *, at_least: int = 1) -> int:
    """Raises ConfigError unless `value` is a whole number of `at_least` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ConfigError(f"{name} must be a whole number of {at_least} or more, got {value!r}.")
    return value
