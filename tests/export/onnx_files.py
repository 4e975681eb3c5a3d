"""Tiny ONNX files written by hand, and the tokenizer of the committed foreign files."""

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.tiny_tokenizers import FAMILIES

VOCABULARY_SIZE = 60


def write_tokenizer(folder: Path, architecture: str = "bert", *, size: int = VOCABULARY_SIZE) -> Path:
    """tokenizer.json alone, as it may lie beside a foreign file: `size` words, the special tokens of the family first."""
    folder.mkdir(parents=True, exist_ok=True)
    roles = FAMILIES[architecture].roles
    words = [*roles.values(), *(f"word{i}" for i in range(size - len(roles)))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=roles["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


GRAPH = """
<ir_version: 8, opset_import: ["" : 17]>
encoder (int64[batch, length] input_ids, int64[batch, length] attention_mask) => (float[batch, length, 4] last_hidden_state)
{
  words = Gather (word_embeddings, input_ids)
  zero = Constant <value_ints = [0]> ()
  size = Shape <start = 1, end = 2> (attention_mask)
  positions = Slice (position_embeddings, zero, size, zero)
  x = Add (words, positions)
  one = Constant <value_ints = [1]> ()
  last = Constant <value_ints = [-1]> ()
  ratio = Cast <to = 1> (attention_mask)
  mask = Unsqueeze (ratio, last)
  kept = Mul (x, mask)
  mean = ReduceMean <axes = [1], keepdims = 1> (kept)
  last_hidden_state = Add (x, mean)
}
"""
"""The smallest graph whose every token sees the others."""


def write_onnx(path: Path, text: str = GRAPH, *, dtype: type[np.generic] = np.float32, name: str = "position_embeddings") -> Path:
    """`text` with a word table of 60 rows and a position table of 24, which is called `name`."""
    proto = onnx.parser.parse_model(text.replace("position_embeddings", name))
    generator = np.random.default_rng(0)
    for table, rows in (("word_embeddings", VOCABULARY_SIZE), (name, 24)):
        values = generator.normal(size=(rows, 4)).astype(dtype)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, table))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, path)
    return path
