"""Words that are masked for a model to guess: how many, which, and what is put there."""

from pathlib import Path

import torch
from scipy.stats import chisquare

from tests.compress.models import tiny
from trtbert.compress.batches import NO_LABEL, collate, encode_texts
from trtbert.compress.word_masking import with_masked_words


def test_what_is_masked(tmp_path: Path) -> None:
    """15 % of the tokens that are no special ones; of those 80 % are hidden, 10 % are others, 10 % stay."""
    checkpoint = tiny(tmp_path, task="fill-mask")
    fast = checkpoint.tokenizer.fast
    texts = [" ".join(["rain per sea"] * (4 + index % 20)) for index in range(600)]
    batch = collate(checkpoint, encode_texts(checkpoint, texts))
    torch.manual_seed(0)
    masked = with_masked_words(checkpoint, batch)
    before_BS, after_BS, labels_BS = batch.inputs["input_ids"], masked.inputs["input_ids"], masked.labels
    assert labels_BS is not None
    chosen_BS = labels_BS != NO_LABEL
    words_BS = (batch.mask != 0) & ~torch.isin(before_BS, torch.tensor(fast.all_special_ids))
    assert not (chosen_BS & ~words_BS).any() and torch.equal(before_BS[~chosen_BS], after_BS[~chosen_BS])
    assert torch.equal(labels_BS[chosen_BS], before_BS[chosen_BS])
    num_words, num_chosen = int(words_BS.sum()), int(chosen_BS.sum())
    assert num_words > 20_000
    assert chisquare([num_chosen, num_words - num_chosen], [0.15 * num_words, 0.85 * num_words]).pvalue > 1e-3
    hidden = int((after_BS[chosen_BS] == fast.mask_token_id).sum())
    same = int((after_BS[chosen_BS] == before_BS[chosen_BS]).sum())
    same_by_chance = 0.1 * num_chosen / checkpoint.model.config.vocab_size  # another token may be the token itself, or the mask
    expected = [0.8 * num_chosen + same_by_chance, 0.1 * num_chosen + same_by_chance, 0.1 * num_chosen - 2 * same_by_chance]
    assert chisquare([hidden, same, num_chosen - hidden - same], expected).pvalue > 1e-3


def test_the_same_seed_masks_the_same(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, task="fill-mask")
    batch = collate(checkpoint, encode_texts(checkpoint, ["rain per sea"] * 20))
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(with_masked_words(checkpoint, batch).inputs["input_ids"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
