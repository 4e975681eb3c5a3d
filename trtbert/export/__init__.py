"""Stage `export`: a Hugging Face folder or a foreign .onnx file -> one ONNX graph at opset 23 with the whole task in it."""

from pathlib import Path

from trtbert.config import CompileConfig
from trtbert.errors import InputError
from trtbert.export.checkpoint import load_checkpoint
from trtbert.export.source import Feeds, Reference, Source

__all__ = ["Feeds", "Reference", "Source", "load_source"]


def load_source(model: Path, config: CompileConfig, tokenizer_output: Path) -> Source:
    """Export `model`, and write its tokenizer.json and config files into the folder `tokenizer_output`.

    Raises InputError for files that cannot be used, UnsupportedError for models that are not supported.
    """
    return load_checkpoint(model, config, tokenizer_output)
