"""Method `vocabulary`: the same pieces and the same answers for the texts, with fewer tokens; other texts still have tokens."""

from pathlib import Path

import pytest
import torch

from tests.compress.models import classified, tiny
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.compress.batches import collate, encode_texts
from trtbert.compress.method import Job
from trtbert.compress.vocabulary import VocabularyOptions, prune_vocabulary
from trtbert.errors import InputError
from trtbert.tasks import Task

TEXTS = ["The museum opens at nine.", ("Heavy rain", "in the north"), "What an excellent film!"]
FAMILIES = ["bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "albert", "electra", "camembert"]


def outputs(checkpoint: Checkpoint) -> torch.Tensor:
    with torch.no_grad():
        found = checkpoint.model(**collate(checkpoint, encode_texts(checkpoint, TEXTS)).inputs)
    result: torch.Tensor = found.logits if "logits" in found else found.last_hidden_state
    return result


def tokens(checkpoint: Checkpoint, text: object) -> list[str]:
    found: list[str] = checkpoint.tokenizer.fast.backend_tokenizer.encode(*(text if isinstance(text, tuple) else (text,))).tokens
    return found


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_texts_are_cut_and_answered_as_before(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model", architecture)
    with quiet():
        result = prune_vocabulary(Job(checkpoint=checkpoint, texts=TEXTS), VocabularyOptions())
        write_checkpoint(result.checkpoint, tmp_path / "smaller")
        read = read_checkpoint(tmp_path / "smaller")
    assert result.facts["tokens"] < 0.8 * result.facts["of"]
    assert read.model.config.vocab_size % 8 == 0 and read.model.config.vocab_size < checkpoint.model.config.vocab_size
    for text in TEXTS:
        assert tokens(read, text) == tokens(checkpoint, text) == tokens(result.checkpoint, text)
    torch.testing.assert_close(outputs(read), outputs(checkpoint), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
def test_other_texts_are_not_unknown(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model", architecture)
    with quiet():
        smaller = prune_vocabulary(Job(checkpoint=checkpoint, texts=TEXTS), VocabularyOptions()).checkpoint
    other = "Peter Novak works for Acme in Berlin"
    assert smaller.tokenizer.fast.unk_token not in tokens(smaller, other)
    assert len(tokens(smaller, other)) >= len(tokens(checkpoint, other))


def test_a_masked_language_model_keeps_its_scores(tmp_path: Path) -> None:
    """The decoder is tied to the word embedding: the scores of tokens that stay are as they were."""
    task: Task = "fill-mask"
    checkpoint = tiny(tmp_path / "model", task=task)
    with quiet():
        smaller = prune_vocabulary(Job(checkpoint=checkpoint, labelled=classified(9), texts=TEXTS), VocabularyOptions()).checkpoint
    old, new = checkpoint.tokenizer.fast.get_vocab(), smaller.tokenizer.fast.get_vocab()
    kept = sorted(new, key=new.__getitem__)
    before = outputs(checkpoint)[..., [old[token] for token in kept]]
    torch.testing.assert_close(outputs(smaller)[..., : len(kept)], before, rtol=1e-6, atol=1e-6)


def test_a_token_that_is_too_rare(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    with quiet():
        counts = [prune_vocabulary(Job(checkpoint=checkpoint, texts=TEXTS), VocabularyOptions(min_count=n)).facts["tokens"] for n in (1, 2)]
    assert counts[1] < counts[0]


def test_no_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vocabulary keeps what the texts use, and there are none"):
        prune_vocabulary(Job(checkpoint=tiny(tmp_path)), VocabularyOptions())
