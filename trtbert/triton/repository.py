"""Package folders -> one model repository: for each the model that clients call, and its engine."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtbert.errors import ConfigError
from trtbert.package import MANIFEST, Package, open_package
from trtbert.staging import check_output, staged
from trtbert.triton.model_config import backend_of, engine_config, profiles_of, texts_config
from trtbert.triton.pbtxt import to_text
from trtbert.triton.tensors import ENGINE_SUFFIX
from trtbert.triton.vendored import copy_vendored, tokenizers_tag

CONFIG = "config.pbtxt"
_HEADER = "# Written by trtbert triton."
_VERSION = "1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_WEIGHTS = {"model.xml": "model.bin", "model.onnx": "model.onnx.data"}
"""The file that an engine may have its weights in."""


def write_repository(paths: Sequence[Path], output: Path, *, force: bool = False) -> dict[str, Package]:
    """Write the repository; gives the packages by the names of their models.

    Raises what opening a package does, ConfigError for names that Triton or another package rules out, UnsupportedError for a package
    that Triton cannot run, InputError for an output that cannot be written or must not be replaced.
    """
    check_output(output.resolve(), force, _is_repository)
    packages = {name: open_package(path) for name, path in _named(paths).items()}
    for package in packages.values():
        package.engine_path  # noqa: B018  # A build kit has none, and says so.
        backend_of(package.manifest)
    tokenizers_tag()
    with staged(output, force=force, is_replaceable=_is_repository) as folder:
        for name, package in packages.items():
            _write_texts_model(folder / name, name, package)
            _write_engine_model(folder / (name + ENGINE_SUFFIX), name + ENGINE_SUFFIX, package)
    return packages


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """A model has the name of the package's folder; ConfigError where that is no name for one, or two would have it."""
    named: dict[str, Path] = {}
    for path in paths:
        name = path.name or path.resolve().name
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be a model's name in Triton; rename the folder {path} to letters, digits, '_', '.', '-'.")
        named_twice = named.keys() & {name, name + ENGINE_SUFFIX, name.removesuffix(ENGINE_SUFFIX)}
        if named_twice:
            raise ConfigError(f"{named[named_twice.pop()]} and {path} would both write the model {name!r}; rename one of the folders.")
        named[name] = path
    return named


def _write_texts_model(folder: Path, name: str, package: Package) -> None:
    version = folder / _VERSION
    version.mkdir(parents=True)
    _write_config(folder, texts_config(name, package.manifest))
    shutil.copyfile(Path(__file__).with_name("model.py"), version / "model.py")
    shutil.copyfile(package.tokenizer_path, version / package.manifest.model.tokenizer.file)
    facts = package.manifest.model_copy(update={"profiles": profiles_of(package.manifest)})
    (version / MANIFEST).write_text(facts.model_dump_json(include={"model", "profiles", "target"}, indent=2) + "\n", encoding="utf-8")
    copy_vendored(version / "vendored")


def _write_engine_model(folder: Path, name: str, package: Package) -> None:
    version, manifest = folder / _VERSION, package.manifest
    version.mkdir(parents=True)
    _write_config(folder, engine_config(name, manifest))
    engine = package.engine_path.name
    files = [engine, _WEIGHTS.get(engine), None if manifest.plugins is None else manifest.plugins.name]
    for file in files:
        if file in manifest.files:
            shutil.copyfile(package.path / file, version / file)


def _write_config(folder: Path, config: Mapping[str, Any]) -> None:
    (folder / CONFIG).write_text(f"{_HEADER}\n{to_text(config)}", encoding="utf-8")


def _is_repository(path: Path) -> bool:
    """Whether all that is in `path` was written here."""
    return all((child / CONFIG).is_file() and (child / CONFIG).read_bytes().startswith(_HEADER.encode()) for child in path.iterdir())
