"""The plugin library of an engine: where it lies, whether it is the right one, and loading it into TensorRT's registry."""

import ctypes
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from trtbert.errors import MissingRuntimeError, PackageError

LIBRARY = "libtrtbert_plugins.so"
ENVIRONMENT = "TRTBERT_PLUGINS"
SOURCES = ("CMakeLists.txt", "CMakePresets.json", "plugins", "tests/plugins/driver", "tests/plugins/host", "trtbert/version.py")
"""What the library is built from, in a checkout of trtbert."""

_SYSTEM = tuple(
    Path(prefix, name) for prefix in ("/usr/local", "/usr") for name in ("lib", "lib64", f"lib/{sysconfig.get_config_var('MULTIARCH')}")
)
_CHECKOUT = Path(__file__).parents[2]
_ADVICE = (
    "Build it in a checkout of trtbert (cmake --preset plugins && cmake --build --preset plugins; for Volta the preset is sm70), "
    f"or set the environment variable {ENVIRONMENT} to where it lies."
)


class LibraryFacts(Protocol):
    """What a manifest says of the library that the engine was built with."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def sha256(self) -> str: ...


def find_library(target: str, folder: Path | None = None) -> Path | None:
    """The library: what TRTBERT_PLUGINS names, else the first found in `folder` (a package), this Python, the system, a checkout.

    `target` decides between the two that a checkout has: Volta's is built by another compiler.

    Raises MissingRuntimeError where TRTBERT_PLUGINS names a file that is not there.
    """
    named = os.environ.get(ENVIRONMENT)
    if named:
        if not Path(named).is_file():
            raise MissingRuntimeError(f"{ENVIRONMENT} is {named!r}, and there is no such file; set it to the path of a {LIBRARY}.")
        return Path(named)
    return next(filter(Path.is_file, _places(target, folder)), None)


def require_library(target: str, folder: Path | None = None) -> Path:
    """As find_library; raises MissingRuntimeError, which says what to do, where there is none."""
    path = find_library(target, folder)
    if path is None:
        places = ", ".join(str(place.parent) for place in _places(target, folder))
        raise MissingRuntimeError(f"TensorRT's plugins of trtbert are needed, and there is no {LIBRARY} in {places}. {_ADVICE}")
    return path


def checked_library(facts: LibraryFacts, target: str, folder: Path) -> Path:
    """The library of an engine in `folder`; raises MissingRuntimeError where there is none, PackageError where it is another one."""
    path = require_library(target, folder)
    if (found := sha256_of(path)) != facts.sha256:
        raise PackageError(
            f"{path} is not the {facts.name} {facts.version} that the engine was built with: its sha256 is {found[:12]}..., not "
            f"{facts.sha256[:12]}.... Unset {ENVIRONMENT} to take the package's own, or compile the package again."
        )
    return path


def version_of(path: Path) -> str:
    """What the library says of itself; it is loaded for that, which takes no GPU. Raises PackageError for another file."""
    try:
        version = ctypes.CDLL(str(path.absolute())).trtbert_plugins_version
    except (OSError, AttributeError) as error:
        raise PackageError(f"{path} is no plugin library of trtbert: {error}. {_ADVICE}") from error
    version.restype = ctypes.c_char_p
    return bytes(version()).decode()


def check_library(path: Path, target: str) -> None:
    """Raise PackageError for a library that holds no plugins, as that of the kernels alone, or none for `target`."""
    version = version_of(path)
    library = ctypes.CDLL(str(path.absolute()))
    if not (hasattr(library, "getCreators") and hasattr(library, "trtbert_plugins_targets")):
        raise PackageError(f"{path} (version {version}) holds no TensorRT plugins. {_ADVICE}")
    library.trtbert_plugins_targets.restype = ctypes.c_char_p
    targets = bytes(library.trtbert_plugins_targets()).decode()
    if target not in targets.split(","):
        raise PackageError(f"{path} (version {version}) is compiled for {targets or 'the CPU'}, not for {target}. {_ADVICE}")


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_library(registry: Any, path: Path) -> None:
    """Register the library's plugins with an IPluginRegistry; raises PackageError where TensorRT refuses it."""
    if registry.load_library(str(path.absolute())) is None:
        raise PackageError(f"TensorRT refused the plugin library {path}; its message is in the log. {_ADVICE}")


def sources() -> Path | None:
    """The checkout that this trtbert runs from, where the library can be built; None in an installed one."""
    return _CHECKOUT if all((_CHECKOUT / name).exists() for name in SOURCES) else None


def _places(target: str, folder: Path | None) -> Iterator[Path]:
    built = _CHECKOUT / "build" / ("sm70" if target == "sm70" else "plugins") / "plugins"
    own = () if folder is None else (folder,)
    for place in (*own, Path(sys.prefix, "lib"), *_SYSTEM, built):
        yield place / LIBRARY
