"""Queries, keys and values -> contexts in which a token sees those near it and the first one: as Longformer (Beltagy et al., 2020).

The sequence is cut into blocks as long as the window, and the queries of a block meet the keys of three: no tensor has the length of
the text twice. Token i sees token j where |i - j| <= window, everybody sees the first token, and it sees everybody.

Legend: B batch, S sequence, N heads, H head size, C blocks, W window, K keys of three blocks, 3W.
"""

from typing import Any

import torch
from torch.nn import functional

from trtbert.checkpoint.grouped_attention import kept_keys


def banded_attention(
    module: torch.nn.Module,
    query_BNSH: torch.Tensor,
    key_BNSH: torch.Tensor,
    value_BNSH: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    **_options: Any,
) -> tuple[torch.Tensor, None]:
    """The function of an attention as transformers calls it, with the window of `module.config`; gives the contexts [B,S,N,H]."""
    window: int = module.config.banded_window  # type: ignore[union-attr, assignment]
    is_kept_BS = kept_keys(mask) if mask is not None else query_BNSH.new_ones(query_BNSH.shape[0], query_BNSH.shape[2], dtype=torch.bool)
    near = _near_scores(query_BNSH, key_BNSH, is_kept_BS, window, scaling)
    probs_BNCWK1 = functional.dropout(near.softmax(-1), dropout, module.training)
    value_BNCKH = _three_blocks(value_BNSH, window)
    context_BNCWH = probs_BNCWK1[..., 1:] @ value_BNCKH + probs_BNCWK1[..., :1] * value_BNSH[:, :, None, :1]
    first_BN1S = _masked(query_BNSH[:, :, :1] @ key_BNSH.transpose(2, 3) * scaling, is_kept_BS[:, None, None])
    first_BN1H = functional.dropout(first_BN1S.softmax(-1), dropout, module.training) @ value_BNSH
    others_BNSH = context_BNCWH.flatten(2, 3)[:, :, 1 : query_BNSH.shape[2]]
    return torch.cat((first_BN1H, others_BNSH), 2).transpose(1, 2), None


def _near_scores(query_BNSH: torch.Tensor, key_BNSH: torch.Tensor, is_kept_BS: torch.Tensor, window: int, scaling: float) -> torch.Tensor:
    """[B,N,C,W,1+K]: of each query with the first key, then with the keys of its block and the two beside it."""
    query_BNCWH = _blocks(query_BNSH * scaling, window, before=0, after=0)
    near = query_BNCWH @ _three_blocks(key_BNSH, window).transpose(3, 4)
    offset_W1, offset_1K = torch.arange(window)[:, None] + window, torch.arange(3 * window)[None]
    in_band_WK = ((offset_W1 - offset_1K).abs() <= window).to(query_BNSH.device)
    # The first key has its own column, and is not seen again as a near one.
    other_BS = functional.pad(is_kept_BS[:, 1:].to(query_BNSH.dtype), (1, 0))
    is_kept_B1C1K = _three_blocks(other_BS[:, None, :, None], window).transpose(3, 4) > 0
    first = query_BNCWH @ key_BNSH[:, :, None, :1].transpose(3, 4)
    return torch.cat((_masked(first, is_kept_BS[:, None, None, None, :1]), _masked(near, is_kept_B1C1K & in_band_WK)), -1)


def _masked(scores: torch.Tensor, is_kept: torch.Tensor) -> torch.Tensor:
    return scores.masked_fill(~is_kept, torch.finfo(scores.dtype).min)


def _blocks(x_BNSH: torch.Tensor, window: int, *, before: int, after: int) -> torch.Tensor:
    """[B,N,C,W,H], with zeros behind the last token, and `before` and `after` blocks of zeros around them."""
    length = x_BNSH.shape[2]
    tail = (length + window - 1) // window * window - length
    padded = functional.pad(x_BNSH, (0, 0, before * window, after * window + tail))
    return padded.reshape(*padded.shape[:2], -1, window, padded.shape[3])


def _three_blocks(x_BNSH: torch.Tensor, window: int) -> torch.Tensor:
    """[B,N,C,K,H]: each block with the one before and the one behind it."""
    blocks = _blocks(x_BNSH, window, before=1, after=1)
    return torch.cat((blocks[:, :, :-2], blocks[:, :, 1:-1], blocks[:, :, 2:]), 3)
