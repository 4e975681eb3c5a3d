"""What a process printed before it died -> the lines of it that an error quotes."""

import re

_MEANINGFUL = re.compile(r"\[[EF!]\]|Error:|Exception:|terminate called|[Aa]ssert|differs from|not supported")
_NUM_LINES, _WIDTH = 6, 400


def last_lines(text: str) -> str:
    """The last lines of a log that tell of a failure, or its very last lines where none does; each on a new line, long ones cut."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if _MEANINGFUL.search(line)] or lines
    return "".join(f"\n  {line[:_WIDTH]}" for line in telling[-_NUM_LINES:])
