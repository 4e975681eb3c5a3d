"""The config of a model -> its attention: transformers' own, or a successor that config.json names.

num_key_value_heads: keys and values have that many heads. banded_window: a token sees so many on each side, and the first.
"""

import math
from collections.abc import Callable
from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface

from trtbert.checkpoint.banded_attention import banded_attention
from trtbert.checkpoint.grouped_attention import grouped_attention
from trtbert.checkpoint.hf_config import max_positions
from trtbert.errors import InputError, UnsupportedError

GROUPED, BANDED = "num_key_value_heads", "banded_window"
"""Keys of config.json."""
_ATTENTIONS: dict[str, Callable[..., Any]] = {GROUPED: grouped_attention, BANDED: banded_attention}


def successor_key(config: Any) -> str | None:
    """Which of the keys the config has; None for plain attention. InputError for a value that means nothing."""
    keys = [key for key in _ATTENTIONS if getattr(config, key, None) is not None]
    for key in keys:
        value = getattr(config, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{key} in config.json must be a whole number from 1, got {value!r}; correct it, or take it out.")
    if len(keys) > 1:
        raise InputError(f"config.json has both {GROUPED} and {BANDED}, and an attention can have one of them; take one out.")
    return keys[0] if keys else None


def check_successor(config: Any, key: str) -> None:
    """UnsupportedError for a family whose attention adds a bias of its own."""
    if config.model_type == "mpnet":
        raise UnsupportedError(
            f"mpnet adds a position bias to its scores, which {key} leaves no place for; only plain attention is supported."
        )


def window_of(config: Any) -> int | None:
    """Tokens that a token sees on each side; None where it sees all, as it does when no text is longer than the window."""
    if successor_key(config) != BANDED:
        return None
    window, longest = int(config.banded_window), max_positions(config.to_dict())
    return window if longest is None or window < longest else None


def use_successor(model: Any) -> None:
    """Let every layer of the model compute the attention that its config names."""
    key = successor_key(model.config)
    if key is None:
        return
    check_successor(model.config, key)
    if key == BANDED and window_of(model.config) is None:
        return
    name = f"trtbert_{key}"
    AttentionInterface.register(name, _ATTENTIONS[key])
    AttentionMaskInterface.register(name, _padding_mask)
    model.config._attn_implementation = name


def num_pairs(config: Any, length: int) -> int:
    """Of a query and a key that are multiplied in one head, for a text of `length` tokens."""
    window = window_of(config)
    if window is None:
        return length * length
    num_queries = math.ceil(length / window) * window  # of whole blocks
    return num_queries * (3 * window + 1) + length


def why_unfused(config: Any) -> str | None:
    """Why the attention of a model is no FusedQkvAttention; None for one that is."""
    window = window_of(config)
    return None if window is None else f"its attention is computed in bands: a token sees {window} on each side, and the first"


def _padding_mask(*, attention_mask: Any = None, **_options: Any) -> Any:
    """The mask [B,S] as it is, not one of all pairs of tokens."""
    return attention_mask
