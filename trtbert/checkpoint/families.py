"""Where each family keeps the linear modules of an encoder layer."""

import re
from dataclasses import dataclass

_LAYER = re.compile(r"(?:^|\.)(?:encoder\.layer|transformer\.layer|albert_layers)\.(\d+)$")


@dataclass(frozen=True, kw_only=True)
class LayerNames:
    """The module names inside an encoder layer of one family."""

    attention: str
    """The module that holds the projections and their sizes."""
    qkv: tuple[str, str, str]
    out: str
    up: str
    down: str


_BERT = LayerNames(
    attention="attention.self", qkv=("query", "key", "value"), out="attention.output.dense", up="intermediate.dense", down="output.dense"
)
FAMILIES: dict[str, LayerNames] = {
    "albert": LayerNames(attention="attention", qkv=("query", "key", "value"), out="attention.dense", up="ffn", down="ffn_output"),
    "bert": _BERT,
    "camembert": _BERT,
    "distilbert": LayerNames(
        attention="attention", qkv=("q_lin", "k_lin", "v_lin"), out="attention.out_lin", up="ffn.lin1", down="ffn.lin2"
    ),
    "electra": _BERT,
    "mpnet": LayerNames(
        attention="attention.attn", qkv=("q", "k", "v"), out="attention.attn.o", up="intermediate.dense", down="output.dense"
    ),
    "roberta": _BERT,
    "xlm-roberta": _BERT,
}
"""By model_type; families that are not here keep their full shapes."""


def is_layer(module: str) -> bool:
    """Whether the module of that name is an encoder layer: bert.encoder.layer.3"""
    return _LAYER.search(module) is not None
