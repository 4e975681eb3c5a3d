"""Stage `export`: a Hugging Face folder or a foreign .onnx file -> one ONNX graph at opset 23 with the whole task in it."""

from pathlib import Path

from trtbert.checkpoint.hub import find_model
from trtbert.checkpoint.quiet import quiet
from trtbert.config import CompileConfig
from trtbert.export.checkpoint import load_checkpoint
from trtbert.export.foreign import load_foreign
from trtbert.export.source import Feeds, Reference, Source

__all__ = ["Feeds", "Reference", "Source", "find_source", "load_source"]


def find_source(model: Path) -> Path:
    """The folder or .onnx file itself, or the folder of the hub's model of that name; InputError where there is none of them."""
    with quiet():
        return model if model.suffix == ".onnx" else find_model(model)


def load_source(model: Path, config: CompileConfig, tokenizer_output: Path) -> Source:
    """Export `model`, and write its tokenizer.json and config files into the folder `tokenizer_output`.

    `model` is a Hugging Face folder, or an .onnx file with `config.tokenizer` or a tokenizer beside it.
    Raises InputError for files that cannot be used, UnsupportedError for models that are not supported.
    """
    with quiet():
        load = load_foreign if model.suffix == ".onnx" else load_checkpoint
        return load(model, config, tokenizer_output)
