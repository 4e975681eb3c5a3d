"""The committed foreign files with a tokenizer each: sources that compile in a second, with no export."""

import json
from pathlib import Path
from typing import Any

from tests.fixtures.make_foreign import FOREIGN
from tests.rewrite.foreign import write_tokenizer

BERT = "bert-text-classification-gelu_new-eager-opset14.onnx"
MPNET = "mpnet-eager-opset17.onnx"


def make_source(folder: Path, name: str = BERT) -> tuple[Path, Path]:
    """The .onnx file, and the folder of its tokenizer that is made under `folder`."""
    facts: dict[str, Any] = json.loads((FOREIGN / "files.json").read_text())[name]
    write_tokenizer(folder / "tokenizer", facts)
    return FOREIGN / name, folder / "tokenizer"
