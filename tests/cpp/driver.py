"""The program of tests/cpp/driver: requests in, answers out, as JSON lines."""

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LEAKS = "leak:libopenvino\nleak:libtbb\n"
"""What others keep until the process ends is no leak of ours."""


@dataclass(frozen=True)
class Driver:
    path: Path

    def __call__(self, *arguments: str | Path, lines: Iterable[Any] = ()) -> list[Any]:
        """The answers; AssertionError where the program ends with anything but 0, or 3 for a refusal."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        done = self.run(*arguments, text=text.encode())
        assert done.returncode in (0, 3), done.stderr.decode()
        return [json.loads(line) for line in done.stdout.splitlines()]

    def run(self, *arguments: str | Path, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        suppressions = self.path.parent / "leaks.txt"
        suppressions.write_text(_LEAKS)
        environment = {**os.environ, "LSAN_OPTIONS": f"suppressions={suppressions}:print_suppressions=0"}
        command = [self.path, *arguments]
        return subprocess.run(command, input=text, capture_output=True, env=environment, check=False)
