"""The facts of a foreign .onnx file -> a tokenizer folder for it, and its import and fusion.

A foreign file has no tokenizer beside it; this one is small enough for its 60 words.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.export.running import run_graph
from tests.fixtures.make_foreign import SIZES
from tests.numerics import assert_close
from tests.tiny_tokenizers import FAMILIES
from trtbert.config import CompileConfig
from trtbert.export import Feeds, Source, load_source
from trtbert.ops import DOMAIN
from trtbert.rewrite import Rewritten, rewrite

Facts = dict[str, Any]


@dataclass(frozen=True)
class Imported:
    """A foreign file at the start of the pipeline, and after the rewrite stage."""

    facts: Facts
    source: Source
    rewritten: Rewritten

    @property
    def fused(self) -> list[ir.Node]:
        return [node for node in self.rewritten.model.graph if node.domain == DOMAIN]

    @property
    def num_fused(self) -> Counter[str]:
        return Counter(node.op_type for node in self.fused)

    def attribute(self, name: str) -> list[int]:
        """Of each attention, in the order of the layers."""
        return [node.attributes[name].as_int() for node in self.fused if node.op_type == "FusedQkvAttention"]


def import_and_rewrite(path: Path, facts: Facts, folder: Path, *, allow_unfused: bool = False) -> Imported:
    """Read the file with a config.json beside its tokenizer, as the hub has it, and fuse it."""
    write_tokenizer(folder, facts)
    source = load_source(path, CompileConfig(tokenizer=folder), folder / "out")
    known = source.facts
    rewritten = rewrite(source.model, architecture=known.architecture, num_layers=known.num_layers, allow_unfused=allow_unfused)
    return Imported(facts, source, rewritten)


def write_tokenizer(folder: Path, facts: Facts) -> None:
    """tokenizer.json of whole words, and the config.json of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    roles = list(FAMILIES[facts["architecture"]].roles.values())
    words = {word: index for index, word in enumerate([*roles, *(f"w{i}" for i in range(60 - len(roles)))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=FAMILIES[facts["architecture"]].roles["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(roles)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = {f"{role}_token": token for role, token in FAMILIES[facts["architecture"]].roles.items()}
    settings = tokens | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": facts["max_length"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    names = {"num_hidden_layers": len(facts["num_heads"]), "vocab_size": facts["vocabulary_size"], "hidden_size": facts["hidden_size"]}
    renamed = {"num_hidden_layers": "n_layers", "hidden_size": "dim"} if facts["architecture"] == "distilbert" else {}
    options = {renamed.get(name, name): value for name, value in names.items()}
    positions = SIZES["max_position_embeddings"]
    transformers.AutoConfig.for_model(facts["architecture"], **options, max_position_embeddings=positions, pad_token_id=1).save_pretrained(
        folder
    )


def assert_every_layer_is_fused(imported: Imported) -> None:
    """1 embedding, L attentions with their own head counts, 2L skip-LayerNorms, L bias-GELUs (none with ReLU), and nothing missed."""
    facts, rewritten = imported.facts, imported.rewritten
    num_layers, has_gelu = len(facts["num_heads"]), facts["options"].get("hidden_act") != "relu"
    expected = {
        "FusedEmbedLayerNorm": 1,
        "FusedQkvAttention": num_layers,
        "FusedSkipLayerNorm": 2 * num_layers,
        "FusedBiasGelu": num_layers * has_gelu,
    }
    assert rewritten.fusions == expected
    assert imported.num_fused == {op: count for op, count in expected.items() if count}
    assert not rewritten.unfused
    assert imported.attribute("num_heads") == facts["num_heads"]
    assert imported.attribute("head_size") == [facts["head_size"]] * num_layers
    left = {node.op_type for node in rewritten.model.graph} & {"Attention", "Erf", "Gelu", "LayerNormalization", "Sqrt", "ReduceMean"}
    assert not left, f"still in the graph: {left}"


def batches(imported: Imported) -> list[Feeds]:
    """int32 [B,S]: one token, right padding, left padding, holes, and the longest input with eight rows."""
    known, generator = imported.source.facts, np.random.default_rng(1)
    assert known.max_length == imported.facts["max_length"]
    result = []
    for batch, length, padding in ((1, 1, "none"), (3, 9, "right"), (3, 9, "left"), (2, 13, "holes"), (8, known.max_length, "right")):
        mask = np.ones((batch, length), np.int32)
        for row in range(1, batch):
            hidden = {"right": slice(length - row, None), "left": slice(row), "holes": slice(1, None, 3), "none": slice(0)}[padding]
            mask[row, hidden] = 0
        ids = generator.integers(5, imported.facts["vocabulary_size"], (batch, length))
        feeds = {"input_ids": np.where(mask, ids, known.tokenizer.pad_token_id), "attention_mask": mask, "token_type_ids": ids % 2}
        result.append({tensor.name: feeds[tensor.name].astype(np.int32) for tensor in known.inputs})
    return result


def assert_answers_like_the_file(imported: Imported) -> None:
    """Against the untouched file in ONNX Runtime, at every token that is not padding."""
    for feeds in batches(imported):
        expected, actual = imported.source.reference(feeds), run_graph(imported.rewritten.model, feeds)
        is_kept = feeds["attention_mask"] != 0
        for name, array in expected.items():
            is_by_token = array.shape[:2] == is_kept.shape
            assert_close(actual[name][is_kept] if is_by_token else actual[name], array[is_kept] if is_by_token else array)
