"""Stand-ins for the plugin library: files that say their version as the real one does, and hold no plugin."""

import shutil
import subprocess
from pathlib import Path

import pytest

from trtbert.runtime.plugins import LIBRARY

TARGETS = "sm70,sm75,sm80,sm86,sm89,sm90,sm100,sm120"


def make_library(folder: Path, version: str = "1.2.3", *, symbol: str = "trtbert_plugins_version", targets: str = TARGETS) -> Path:
    """libtrtbert_plugins.so in `folder`, by the C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to make a library with")
    folder.mkdir(parents=True, exist_ok=True)
    code = f"""
        char const* {symbol}(void) {{ return "{version}"; }}
        char const* trtbert_plugins_targets(void) {{ return "{targets}"; }}
        void* getCreators(int* count) {{ *count = 0; return 0; }}
    """
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(folder / LIBRARY)]
    subprocess.run(command, check=True, input=code, text=True)
    return folder / LIBRARY
