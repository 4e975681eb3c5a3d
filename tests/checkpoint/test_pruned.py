"""Pruned checkpoints load with the sizes of their weights and answer as their zeroed twins; other disagreements are refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.models import make_checkpoint, mask_checkpoint, prune_checkpoint
from tests.numerics import assert_close
from trtbert.checkpoint.hf_config import read_config
from trtbert.checkpoint.torch_model import load_model
from trtbert.checkpoint.weights import read_weights
from trtbert.config import CompileConfig
from trtbert.errors import InputError
from trtbert.export import load_source

FAMILIES = ("bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")
_MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
_IDS = torch.arange(5, 17).reshape(2, 6)


def _load(folder: Path) -> Any:
    return load_model(read_config(folder), "feature-extraction", read_weights(folder).state)


def _hidden(model: Any) -> Any:
    with torch.inference_mode():
        return model(input_ids=_IDS, attention_mask=_MASK).last_hidden_state.numpy()


def _edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("architecture", FAMILIES)
def test_unequal_layers(architecture: str, tmp_path: Path) -> None:
    whole = make_checkpoint(tmp_path / "whole", architecture)
    heads = {0: [1], 1: [0, 2]}
    pruned = prune_checkpoint(whole, tmp_path / "pruned", heads, {1: 33})
    model = _load(pruned)
    sizes = sorted({tuple(p.shape) for name, p in model.named_parameters() if re.search(r"(query|q_lin|attn\.q)\.weight", name)})
    assert sizes == [(16, 48), (32, 48)]
    twin = transformers.AutoModel.from_pretrained(mask_checkpoint(whole, tmp_path / "twin", heads, {1: 33})).eval()
    assert_close(_hidden(model), _hidden(twin))


def test_a_pruned_checkpoint_is_exported_with_its_own_sizes(tmp_path: Path) -> None:
    whole = make_checkpoint(tmp_path / "whole", "bert")
    pruned = prune_checkpoint(whole, tmp_path / "pruned", {0: [1], 1: [0, 2]}, {0: 40, 1: 33})
    source = load_source(pruned, CompileConfig(), tmp_path / "out")
    shapes = {tuple(v.shape) for v in source.model.graph.initializers.values() if v.shape is not None and len(v.shape) == 2}
    assert {(48, 32), (48, 16), (48, 40), (48, 33)} <= shapes
    from tests.export.running import assert_graph_equals_reference

    assert_graph_equals_reference(source, vocabulary_size=60)


def test_pruned_heads_of_older_transformers(tmp_path: Path) -> None:
    whole = make_checkpoint(tmp_path / "whole", "bert")
    pruned = prune_checkpoint(whole, tmp_path / "pruned", {0: [1]}, {})
    _edit_config(pruned, pruned_heads={"0": [1]})
    twin = transformers.AutoModel.from_pretrained(mask_checkpoint(whole, tmp_path / "twin", {0: [1]}, {})).eval()
    assert_close(_hidden(_load(pruned)), _hidden(twin))
    _edit_config(pruned, pruned_heads={"0": [1, 2]})
    with pytest.raises(InputError, match=r"pruned_heads names 2 of 3 heads of layer 0, but .* is 2 heads of 16"):
        _load(pruned)


def test_mpnet_takes_the_position_bias_of_the_kept_heads(tmp_path: Path) -> None:
    whole = make_checkpoint(tmp_path / "whole", "mpnet")
    pruned, key = tmp_path / "pruned", "encoder.relative_attention_bias.weight"
    prune_checkpoint(whole, pruned, {0: [1], 1: [1]}, {})
    weights = load_file(pruned / "model.safetensors") | {key: load_file(whole / "model.safetensors")[key]}
    save_file(weights, pruned / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="does not say which heads were kept"):
        _load(pruned)
    _edit_config(pruned, pruned_heads={"0": [1], "1": [1]})
    twin = transformers.AutoModel.from_pretrained(mask_checkpoint(whole, tmp_path / "twin", {0: [1], 1: [1]}, {})).eval()
    assert_close(_hidden(_load(pruned)), _hidden(twin))


def test_albert_shares_its_pruned_layer(tmp_path: Path) -> None:
    whole = make_checkpoint(tmp_path / "whole", "albert")
    weights = load_file(whole / "model.safetensors")
    twin = {name: tensor.clone() for name, tensor in weights.items()}
    for name in weights:
        if re.search(r"attention\.(query|key|value)\.", name):
            weights[name] = weights[name][:32].contiguous()
        if name.endswith("attention.dense.weight"):
            weights[name] = weights[name][:, :32].contiguous()
            twin[name][:, 32:] = 0
    expected = transformers.AlbertModel.from_pretrained(None, config=read_config(whole), state_dict=twin).eval()
    assert_close(_hidden(load_model(read_config(whole), "feature-extraction", weights)), _hidden(expected))


LAYER = "encoder.layer.1"
DISAGREEMENTS = {
    "hidden_size": ({"hidden_size": 36}, {}, r"is \(48, 48\), where hidden_size 36"),
    "vocabulary": ({"vocab_size": 500}, {}, r"word_embeddings.weight is \(320, 48\) in the file.*\(500, 48\)\. Correct vocab_size"),
    "positions": ({"max_position_embeddings": 64}, {}, r"position_embeddings.weight is \(130, 48\).*\(64, 48\).*max_position_embeddings"),
    "too few layers": ({"num_hidden_layers": 1}, {}, "num_hidden_layers is 1, but the file holds 2 layers. Set num_hidden_layers .* to 2"),
    "too many layers": ({"num_hidden_layers": 3}, {}, "num_hidden_layers is 3, but the file holds 2 layers"),
    "ffn everywhere": ({"intermediate_size": 96}, {}, r"is \(80, 48\).*intermediate_size 96.*Set intermediate_size \(hidden_dim\) to 80"),
    "ffn wider": ({}, {"intermediate.dense": (96, None), "output.dense": (48, 96)}, r"is \(96, 48\).*intermediate_size 80"),
    "ffn half": ({}, {"intermediate.dense": (40, None)}, r"is \(40, 48\) and .* is \(48, 80\)"),
    "part of a head": ({}, {"attention.self.query": (24, None)}, r"query.weight is \(24, 48\).*whole heads of 16"),
    "unequal q and k": ({}, {"attention.self.key": (32, None)}, r"key.weight is \(32, 48\).*the first is \(48, 48\)"),
    "output of other heads": ({}, {"attention.output.dense": (48, 32)}, r"attention.output.dense.weight is \(48, 32\).*\(48, 48\)"),
}


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_a_config_that_disagrees_with_the_weights(name: str, tmp_path: Path) -> None:
    changes, sizes, message = DISAGREEMENTS[name]
    folder = make_checkpoint(tmp_path, "bert")
    weights = load_file(folder / "model.safetensors")
    for module, (rows, columns) in sizes.items():
        key = f"{LAYER}.{module}"
        old = weights[f"{key}.weight"]
        weights[f"{key}.weight"] = torch.zeros(rows or old.shape[0], columns or old.shape[1])
        weights[f"{key}.bias"] = torch.zeros(rows or old.shape[0])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _edit_config(folder, **changes)
    with pytest.raises(InputError, match=message):
        _load(folder)
