"""Queries, and keys and values of fewer heads -> contexts: grouped-query attention, multi-query with one head (Ainslie et al., 2023).

Legend: B batch, S sequence, N query heads, G key and value heads, R queries that share a head, N/G of each token, H head size.
"""

from typing import Any

import torch
from torch.nn import functional


def grouped_attention(
    module: torch.nn.Module,
    query_BNSH: torch.Tensor,
    key_BGSH: torch.Tensor,
    value_BGSH: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    **_options: Any,
) -> tuple[torch.Tensor, None]:
    """The function of an attention as transformers calls it; gives the contexts [B,S,N,H].

    Head n reads the keys and values of head n * G // N. The queries that share a head are the rows of one product, so that keys and
    values are neither repeated nor broadcast.
    """
    batch, num_groups, _, head_size = key_BGSH.shape
    scores_BGRS = query_BNSH.reshape(batch, num_groups, -1, head_size) @ key_BGSH.transpose(2, 3) * scaling
    if mask is not None:
        scores_BGRS = scores_BGRS.masked_fill(~kept_keys(mask)[:, None, None], torch.finfo(scores_BGRS.dtype).min)
    probs_BGRS = functional.dropout(scores_BGRS.softmax(-1), dropout, module.training)
    return (probs_BGRS @ value_BGSH).reshape(query_BNSH.shape).transpose(1, 2), None


def kept_keys(mask: torch.Tensor) -> torch.Tensor:
    """[B,S], bool: which keys are no padding, from a mask [B,S] or, inside the model of a predecessor, [B,1,S,S]."""
    return (mask if mask.ndim == 2 else mask[:, 0, 0]) != 0
