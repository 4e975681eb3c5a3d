"""The emulated builds that have a check compiled in."""

from functools import cache

import pytest

from plugins.tools.emulated_build import Build, MissingTool, emulated_build


@cache
def variant(name: str) -> Build:
    """Built, or the test is skipped, with what to install."""
    try:
        return emulated_build(name)
    except MissingTool as error:
        pytest.skip(str(error))
