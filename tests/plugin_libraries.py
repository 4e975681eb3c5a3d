"""Stand-ins for the plugin library: files that say their version as the real one does, and hold no plugin."""

import shutil
import subprocess
from pathlib import Path

import pytest

from trtbert.runtime.plugins import LIBRARY


def make_library(folder: Path, version: str = "1.2.3", *, symbol: str = "trtbert_plugins_version") -> Path:
    """libtrtbert_plugins.so in `folder`, by the C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to make a library with")
    folder.mkdir(parents=True, exist_ok=True)
    code = f'char const* {symbol}(void) {{ return "{version}"; }}'
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(folder / LIBRARY)]
    subprocess.run(command, check=True, input=code, text=True)
    return folder / LIBRARY
