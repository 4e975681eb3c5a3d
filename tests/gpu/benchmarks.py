"""The modules of benchmarks/, which are no package: each is imported by its bare name, as the scripts there do."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import pytest

from tests.gpu.tools import ROOT


@contextmanager
def importable() -> Iterator[None]:
    """Inside, benchmarks/ is on the path; not longer, for it holds a module `plugins`, which is also a folder of the project."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield


def load(name: str) -> ModuleType:
    with importable():
        return import_module(name)
