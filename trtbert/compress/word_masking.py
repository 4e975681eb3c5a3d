"""A batch of texts -> the same with some words masked, which are its labels (Devlin et al., 2019).

Legend: B examples, S sequence.
"""

from dataclasses import replace

import torch

from trtbert.checkpoint.read import Checkpoint
from trtbert.compress.batches import NO_LABEL, Batch
from trtbert.tasks import INPUT_IDS

CHOSEN = 0.15
"""Tokens that are to be guessed; special ones and padding are none of them."""
MASKED, RANDOM = 0.8, 0.1
"""Of those, the share that is hidden by the mask token, and by any other token; the rest stay as they are."""


def with_masked_words(checkpoint: Checkpoint, batch: Batch) -> Batch:
    """Drawn from torch's global generator. The labels [B,S] are the tokens that were chosen, NO_LABEL elsewhere."""
    fast, ids_BS = checkpoint.tokenizer.fast, batch.inputs[INPUT_IDS]
    special = torch.tensor(fast.all_special_ids, device=ids_BS.device)
    can_be_chosen_BS = (batch.mask != 0) & ~torch.isin(ids_BS, special)
    draw_BS, how_BS = (torch.rand(ids_BS.shape, device=ids_BS.device) for _ in range(2))
    any_BS = torch.randint(checkpoint.model.config.vocab_size, ids_BS.shape, device=ids_BS.device)
    chosen_BS = can_be_chosen_BS & (draw_BS < CHOSEN)
    hidden_BS = ids_BS.masked_fill(chosen_BS & (how_BS < MASKED), fast.mask_token_id)
    hidden_BS = torch.where(chosen_BS & (how_BS >= MASKED) & (how_BS < MASKED + RANDOM), any_BS, hidden_BS)
    return replace(batch, inputs=batch.inputs | {INPUT_IDS: hidden_BS}, labels=ids_BS.masked_fill(~chosen_BS, NO_LABEL))
