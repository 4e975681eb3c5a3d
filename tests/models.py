"""A family and a task -> a tiny random checkpoint folder, whole or pruned, as a user would have it.

Weights are drawn so that a mixed-up operand shows: no bias is zero, no gamma is one, every matrix keeps the scale of its input.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.tiny_tokenizers import FAMILIES, make_tokenizer
from trtbert.tasks import TASKS, Task

Heads = Mapping[int, Sequence[int]]
"""Heads to remove, by layer."""
Widths = Mapping[int, int]
"""FFN width to keep, by layer."""

_SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "num_hidden_layers": 2,
    "hidden_size": 48,
    "num_attention_heads": 3,
    "intermediate_size": 80,
    "max_position_embeddings": 130,
}
_RENAMED = {
    "distilbert": {
        "num_hidden_layers": "n_layers",
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    },
    "modernbert": {"hidden_act": "hidden_activation"},
}
_EXTRA: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 24},
    "camembert": {"type_vocab_size": 1},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 16,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "electra": {"embedding_size": 24},
    "modernbert": {"local_attention": 16, "global_attn_every_n_layers": 2},
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
}
LABELS: dict[str, tuple[str, ...]] = {
    "text-classification": ("negative", "neutral", "positive"),
    "token-classification": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
    "text-ranking": ("LABEL_0",),
}


def make_checkpoint(folder: Path, architecture: str, *, task: Task = "feature-extraction", seed: int = 0, **config_overrides: Any) -> Path:
    """Write config.json, model.safetensors and a tokenizer into `folder`.

    `config_overrides` take BERT's names for every family (hidden_size, num_hidden_layers, num_attention_heads,
    intermediate_size, max_position_embeddings, hidden_act), or the family's own names.
    `sentence-similarity` adds the sentence-transformers modules for mean pooling and normalisation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    positions = config_overrides.get("max_position_embeddings", _SIZES["max_position_embeddings"])
    max_length = positions - FAMILIES[architecture].num_reserved_positions
    tokenizer = make_tokenizer(folder, architecture, max_length=max_length)
    options = {"vocab_size": tokenizer.get_vocab_size(), **config_overrides}
    make_model(architecture, task=task, seed=seed, **options).save_pretrained(folder, safe_serialization=True)
    if task == "sentence-similarity":
        _write_sentence_transformers_modules(folder, config_overrides.get("hidden_size", _SIZES["hidden_size"]))
    return folder


_ID_ROLES = {"pad": "pad", "bos": "cls", "eos": "sep", "cls": "cls", "sep": "sep"}


def make_model(architecture: str, *, task: Task = "feature-extraction", seed: int = 0, **options: Any) -> Any:
    """The model itself, in evaluation mode; `options` as the overrides of `make_checkpoint`, and `attn_implementation`."""
    names, roles = _RENAMED.get(architecture, {}), list(FAMILIES[architecture].roles)
    ids = {f"{name}_token_id": roles.index(role) for name, role in _ID_ROLES.items()}
    values = _SIZES | ids | _EXTRA.get(architecture, {}) | _label_options(task) | options
    merged = {names.get(name, name): value for name, value in values.items()}
    attention = merged.pop("attn_implementation", None)
    config = transformers.AutoConfig.for_model(architecture, **merged)
    chosen = {"attn_implementation": attention} if attention else {}
    model = getattr(transformers, TASKS[task].auto_class).from_config(config, **chosen)
    randomise(model, seed=seed)
    return model.eval()


@torch.no_grad()
def randomise(model: torch.nn.Module, *, seed: int) -> None:
    """Draw every parameter anew: biases and betas N(0, 0.1), gammas N(1, 0.1), embeddings N(0, 0.1), matrices N(0, 0.7/sqrt(in))."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1 and "embedding" not in name and "relative_attention_bias" not in name:
            parameter.copy_(0.7 * noise / parameter.shape[-1] ** 0.5)
        elif parameter.ndim == 1 and name.endswith("weight"):
            parameter.copy_(1 + 0.1 * noise)
        else:
            parameter.copy_((0.5 if "relative_attention_bias" in name else 0.1) * noise)


def prune_checkpoint(folder: Path, output: Path, heads: Heads, ffn: Widths) -> Path:
    """Copy a checkpoint without `heads` and with the first `ffn` neurons of each named layer; config.json stays the original.

    For bert, roberta, xlm-roberta, camembert, electra, distilbert, mpnet. MPNet shares one position bias among its layers: where they lose
    different heads the bias stays whole, and config.json names the heads.
    """
    shutil.copytree(folder, output, dirs_exist_ok=True)
    options = json.loads((folder / "config.json").read_text())
    if options["model_type"] == "mpnet" and not _lose_the_same(heads, options["num_hidden_layers"]):
        (output / "config.json").write_text(json.dumps(options | {"pruned_heads": heads}))
    weights = load_file(folder / "model.safetensors")
    for keys, rows in _kept(folder, weights, heads, ffn):
        for key, axis in keys:
            weights[key] = weights[key].index_select(axis, rows).contiguous()
    save_file(weights, output / "model.safetensors", metadata={"format": "pt"})
    return output


def mask_checkpoint(folder: Path, output: Path, heads: Heads, ffn: Widths) -> Path:
    """The twin of `prune_checkpoint` with the full shapes and the same answers: what is removed there is multiplied by zero here.

    It loads with plain `transformers`, so it is the reference of a pruned checkpoint.
    """
    shutil.copytree(folder, output, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    for keys, rows in _kept(folder, weights, heads, ffn):
        for key, axis in keys:
            if key.endswith(_CONSUMERS):
                keep = torch.zeros(weights[key].shape[axis])
                keep[rows] = 1
                weights[key] = weights[key] * keep
    save_file(weights, output / "model.safetensors", metadata={"format": "pt"})
    return output


_BERT_NAMES = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_MPNET_NAMES = ("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o", "intermediate.dense", "output.dense")
_DISTILBERT_NAMES = ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2")
_LAYER_NAMES = {"mpnet": _MPNET_NAMES, "distilbert": _DISTILBERT_NAMES}
_CONSUMERS = ("output.dense.weight", "attn.o.weight", "out_lin.weight", "lin2.weight")
"""Matrices whose input columns belong to heads or FFN neurons."""
_Keys = list[tuple[str, int]]


def _kept(folder: Path, weights: Mapping[str, torch.Tensor], heads: Heads, ffn: Widths) -> Iterator[tuple[_Keys, torch.Tensor]]:
    """(tensor name, axis) pairs with the indices that stay on that axis."""
    config = transformers.AutoConfig.from_pretrained(folder)
    size, names = config.hidden_size // config.num_attention_heads, _LAYER_NAMES.get(config.model_type, _BERT_NAMES)
    all_heads = range(config.num_attention_heads)
    for layer, removed in heads.items():
        query, key, value, out = (_prefixed(weights, f"layer.{layer}.{name}") for name in names[:4])
        rows = [head * size + index for head in all_heads if head not in removed for index in range(size)]
        producers = [(f"{name}.{part}", 0) for name in (query, key, value) for part in ("weight", "bias")]
        yield [*producers, (f"{out}.weight", 1)], torch.tensor(rows)
    if config.model_type == "mpnet" and heads and _lose_the_same(heads, config.num_hidden_layers):
        kept = [head for head in all_heads if head not in heads[0]]
        yield [(next(key for key in weights if key.endswith("relative_attention_bias.weight")), 1)], torch.tensor(kept)
    for layer, width in ffn.items():
        up, down = (_prefixed(weights, f"layer.{layer}.{name}") for name in names[4:])
        yield [(f"{up}.weight", 0), (f"{up}.bias", 0), (f"{down}.weight", 1)], torch.arange(width)


def _lose_the_same(heads: Heads, num_layers: int) -> bool:
    return len(heads) == num_layers and len({tuple(sorted(removed)) for removed in heads.values()}) == 1


def _prefixed(weights: Mapping[str, torch.Tensor], name: str) -> str:
    """The full name of a module, whatever prefix the head of the checkpoint gives it."""
    return next(key for key in weights if f".{key}".endswith(f".{name}.weight")).removesuffix(".weight")


def _label_options(task: Task) -> dict[str, Any]:
    labels = LABELS.get(task)
    return {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}} if labels else {}


def _write_sentence_transformers_modules(folder: Path, width: int) -> None:
    modules = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"} for i, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed, indent=2))
    for path, _ in modules[1:]:
        (folder / path).mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": width, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2))
