"""The plugin library is found, checked and loaded, and where it is not there the message says what to do."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.plugin_libraries import make_library
from trtbert.errors import MissingRuntimeError, PackageError
from trtbert.runtime import plugins
from trtbert.runtime.plugins import LIBRARY


@dataclass(frozen=True)
class Facts:
    name: str
    version: str
    sha256: str


@pytest.fixture(autouse=True)
def _nothing_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRTBERT_PLUGINS", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(plugins, "_SYSTEM", (tmp_path / "usr-local-lib", tmp_path / "usr-lib"))
    monkeypatch.setattr(plugins, "_CHECKOUT", tmp_path / "checkout")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_order_of_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    assert plugins.find_library("sm86", package) is None
    places = ("checkout/build/plugins/plugins", "usr-lib", "usr-local-lib", "prefix/lib", "package")
    for place in places:  # the first comes last
        library = touch(tmp_path / place / LIBRARY)
        assert plugins.find_library("sm86", package) == library
    assert plugins.find_library("sm86") == tmp_path / "prefix" / "lib" / LIBRARY
    monkeypatch.setenv("TRTBERT_PLUGINS", str(touch(tmp_path / "elsewhere.so")))
    assert plugins.find_library("sm86", package) == tmp_path / "elsewhere.so"


def test_volta_has_a_library_of_its_own_in_a_checkout(tmp_path: Path) -> None:
    touch(tmp_path / "checkout/build/plugins/plugins" / LIBRARY)
    assert plugins.find_library("sm70") is None
    library = touch(tmp_path / "checkout/build/sm70/plugins" / LIBRARY)
    assert plugins.find_library("sm70") == library != plugins.find_library("sm75")


def test_a_variable_that_names_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTBERT_PLUGINS", str(tmp_path / "no.so"))
    touch(tmp_path / "package" / LIBRARY)
    with pytest.raises(MissingRuntimeError, match=r"TRTBERT_PLUGINS is '.*no\.so', and there is no such file; set it to the path"):
        plugins.find_library("sm86", tmp_path / "package")


def test_what_to_do_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(MissingRuntimeError) as caught:
        plugins.require_library("sm86", tmp_path / "package")
    message = str(caught.value)
    assert (
        "cmake --preset plugins && cmake --build --preset plugins" in message and "set the environment variable TRTBERT_PLUGINS" in message
    )
    assert all(str(tmp_path / place) in message for place in ("package", "prefix/lib", "usr-local-lib", "checkout/build/plugins/plugins"))


def test_the_version_is_what_the_library_says(tmp_path: Path) -> None:
    assert plugins.version_of(make_library(tmp_path / "a", "1.2.3")) == "1.2.3"
    assert plugins.version_of(make_library(tmp_path / "b", "2.0.0")) == "2.0.0"


def test_what_is_no_plugin_library(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    for path in (tmp_path / "text.so", make_library(tmp_path / "other", symbol="another")):
        with pytest.raises(PackageError, match=f"{path.name} is no plugin library of trtbert: "):
            plugins.version_of(path)


def test_the_library_of_an_engine_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = make_library(tmp_path / "package")
    facts = Facts(LIBRARY, "1.2.3", plugins.sha256_of(library))
    assert plugins.checked_library(facts, "sm86", tmp_path / "package") == library
    monkeypatch.setenv("TRTBERT_PLUGINS", str(make_library(tmp_path / "other", "1.2.4")))
    with pytest.raises(PackageError, match=r"is not the libtrtbert_plugins\.so 1\.2\.3 that the engine was built with: its sha256 is"):
        plugins.checked_library(facts, "sm86", tmp_path / "package")
    monkeypatch.delenv("TRTBERT_PLUGINS")
    library.unlink()
    with pytest.raises(MissingRuntimeError, match="TensorRT's plugins of trtbert are needed, and there is no"):
        plugins.checked_library(facts, "sm86", tmp_path / "package")


class Registry:
    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.loaded: list[str] = []

    def load_library(self, path: str) -> Any:
        self.loaded.append(path)
        return self.handle


def test_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = Registry(object())
    plugins.load_library(registry, Path("a.so"))
    assert registry.loaded == [str(tmp_path / "a.so")], "dlopen looks a bare name up elsewhere"
    with pytest.raises(PackageError, match=r"TensorRT refused the plugin library a\.so; its message is in the log"):
        plugins.load_library(Registry(None), Path("a.so"))


def test_the_sources_are_there_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plugins.sources() is None
    for name in plugins.SOURCES:
        touch(tmp_path / "checkout" / name)
    assert plugins.sources() == tmp_path / "checkout"


def test_the_sources_are_all_that_cmake_reads() -> None:
    root = Path(__file__).parents[2]
    folders = re.findall(r"add_subdirectory\(([^)]+)\)", (root / "CMakeLists.txt").read_text())
    assert len(folders) > 1 and set(folders) - {"cpp"} <= set(plugins.SOURCES)  # TRTBERT_RUNNER, which no kit sets, reads cpp
    assert all((root / name).exists() for name in plugins.SOURCES)


def test_a_library_for_another_target_or_with_no_plugins(tmp_path: Path) -> None:
    library = make_library(tmp_path / "turing", targets="sm75,sm80")
    plugins.check_library(library, "sm80")
    with pytest.raises(PackageError, match=re.escape(f"{library} (version 1.2.3) is compiled for sm75,sm80, not for sm70. Build it")):
        plugins.check_library(library, "sm70")
    emulated = make_library(tmp_path / "emulated", targets="")
    with pytest.raises(PackageError, match="is compiled for the CPU, not for sm80"):
        plugins.check_library(emulated, "sm80")
