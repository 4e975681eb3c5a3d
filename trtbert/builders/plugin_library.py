"""Put the plugin library beside an engine, or its sources into a build kit, so that neither needs this machine any more."""

import shutil
from pathlib import Path

from trtbert.config import Target
from trtbert.package import PluginLibrary
from trtbert.runtime import plugins

SOURCES = "plugin-sources"
"""The folder of the sources in a build kit."""


def check_obtainable(target: Target) -> None:
    """Raise MissingRuntimeError where there is neither a library nor sources to build it from, PackageError for a library that is none."""
    if plugins.find_library(target) is not None or plugins.sources() is None:
        plugins.check_library(plugins.require_library(target), target)


def copy_library(target: Target, folder: Path) -> PluginLibrary:
    """Copy the library into `folder`; raises MissingRuntimeError where there is none."""
    found, copy = plugins.require_library(target, folder), folder / plugins.LIBRARY
    plugins.check_library(found, target)
    facts = PluginLibrary(name=copy.name, version=plugins.version_of(found), sha256=plugins.sha256_of(found))
    if found.resolve() != copy.resolve():
        shutil.copyfile(found, copy)
    return facts


def copy_sources(kit: Path) -> None:
    """Copy what the library is built from into a folder of the kit, from the checkout that this trtbert runs from."""
    checkout = plugins.sources()
    assert checkout is not None, "check_obtainable() found neither library nor sources"
    for name in plugins.SOURCES:
        source, copy = checkout / name, kit / SOURCES / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, copy)
