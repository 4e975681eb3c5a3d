"""Stands in for trtbert.package in a model repository: a manifest that was checked when the repository was written."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

MANIFEST = "manifest.json"
Manifest = ModelFacts = SimpleNamespace


@dataclass(frozen=True)
class Package:
    """A folder with the manifest and the tokenizer of a package."""

    path: Path
    manifest: SimpleNamespace

    @property
    def tokenizer_path(self) -> Path:
        return self.path / str(self.manifest.model.tokenizer.file)


def open_package(path: Path) -> Package:
    """Read the manifest; its objects become attributes."""
    text = (path / MANIFEST).read_text(encoding="utf-8")
    return Package(path, json.loads(text, object_hook=lambda fields: SimpleNamespace(**fields)))
