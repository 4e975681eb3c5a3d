"""Checkpoints that a test module compiles again and again are exported once: an export takes half of the time of a compilation."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from trtbert import export, pipeline
from trtbert.config import CompileConfig
from trtbert.export import Source


@contextmanager
def exported_once() -> Iterator[None]:
    """Until the end, `load_source` gives a copy of what it gave for the same files and options before."""
    load_source, kept = export.load_source, dict[tuple[str, str], tuple[Path, Source]]()

    def load(model: Path, config: CompileConfig, tokenizer_output: Path) -> Source:
        if not model.is_dir():
            return load_source(model, config, tokenizer_output)
        options = config.model_dump_json(include={"task", "tokenizer", "pooling"})
        if (key := (_hash(model), options)) not in kept:
            folder = Path(tempfile.mkdtemp(dir=scratch))
            kept[key] = folder, load_source(model, config, folder)
        folder, source = kept[key]
        shutil.copytree(folder, tokenizer_output, dirs_exist_ok=True)
        return replace(source, model=source.model.clone())

    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "load_source", load)
        patch.setattr(pipeline, "load_source", load)
        yield


def _hash(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return sha256(b"".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)).hexdigest()
