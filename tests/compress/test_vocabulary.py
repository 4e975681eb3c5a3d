"""Method `vocabulary`: the same pieces and the same answers for the texts, with fewer tokens; other texts still have tokens."""

import json
from pathlib import Path

import pytest
import torch

from tests.compress.models import classified, tiny
from tests.models import make_checkpoint
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.compress.batches import collate, encode_texts
from trtbert.compress.method import Job
from trtbert.compress.vocabulary import VocabularyOptions, _check_padding, prune_vocabulary
from trtbert.data import Example
from trtbert.errors import InputError, UnsupportedError
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


def check(checkpoint: Checkpoint, folder: Path) -> None:
    """The texts, with labels or without, are cut and answered as before; also once the smaller model was written into `folder`."""
    job = Job(checkpoint=checkpoint, labelled=[Example(TEXTS[0], ())], texts=TEXTS[1:])
    with quiet():
        result = prune_vocabulary(job, VocabularyOptions())
        write_checkpoint(result.checkpoint, folder)
        read = read_checkpoint(folder)
    assert result.facts["tokens"] < 0.8 * result.facts["of"]
    assert read.model.config.vocab_size % 8 == 0 and read.model.config.vocab_size < checkpoint.model.config.vocab_size
    for text in TEXTS:
        assert tokens(read, text) == tokens(checkpoint, text) == tokens(result.checkpoint, text)
    torch.testing.assert_close(outputs(read), outputs(checkpoint), rtol=1e-6, atol=1e-6)
    for name in ("pad", "cls", "sep", "bos", "eos"):
        numbers = [getattr(made.model.config, f"{name}_token_id", None) for made in (checkpoint, read)]
        if numbers[0] is not None:
            old, new = (made.tokenizer.fast.convert_ids_to_tokens(n) for made, n in zip((checkpoint, read), numbers, strict=True))
            assert old == new, name


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_texts_are_cut_and_answered_as_before(architecture: str, tmp_path: Path) -> None:
    check(tiny(tmp_path / "model", architecture), tmp_path / "smaller")


def test_special_tokens_get_other_numbers(tmp_path: Path) -> None:
    """Those of the original BERT come after some that are not used; here they come last of all."""
    folder = make_checkpoint(tmp_path / "model", "bert", task="text-classification")
    tokenizer, config = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("tokenizer.json", "config.json"))
    last = len(tokenizer["model"]["vocab"]) - 1
    tokenizer["model"]["vocab"] = {token: last - number for token, number in tokenizer["model"]["vocab"].items()}
    for token in tokenizer["added_tokens"]:
        token["id"] = last - token["id"]
    for special in tokenizer["post_processor"]["special_tokens"].values():
        special["ids"] = [last - number for number in special["ids"]]
    config |= {name: last - value for name, value in config.items() if name.endswith("_token_id") and value is not None}
    for name, content in (("tokenizer.json", tokenizer), ("config.json", config)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    check(tiny(folder), tmp_path / "smaller")


def test_padding_that_would_move(tmp_path: Path) -> None:
    """Positions of roberta are counted from the number of its padding; those of bert are not."""
    checkpoint = tiny(tmp_path / "roberta", "roberta")
    rows = [*range(checkpoint.model.config.pad_token_id, 20)]
    with pytest.raises(UnsupportedError, match="In roberta positions are counted from the number of the padding token, 1, which would"):
        _check_padding(checkpoint, rows)
    _check_padding(tiny(tmp_path / "bert"), rows)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
def test_other_texts_are_not_unknown(architecture: str, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model", architecture)
    with quiet():
        smaller = prune_vocabulary(Job(checkpoint=checkpoint, texts=TEXTS), VocabularyOptions()).checkpoint
    other = "Peter Novak works for Acme in Berlin"
    assert smaller.tokenizer.fast.unk_token not in tokens(smaller, other)
    assert len(tokens(smaller, other)) >= len(tokens(checkpoint, other))


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "electra"])
def test_a_masked_language_model_keeps_its_scores(architecture: str, tmp_path: Path) -> None:
    """The decoder is tied to the word embedding: the scores of tokens that stay are as they were."""
    task: Task = "fill-mask"
    checkpoint = tiny(tmp_path / "model", architecture, task)
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


def test_weights_that_become_wider_are_told(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    assert prune_vocabulary(Job(checkpoint=checkpoint, texts=TEXTS), VocabularyOptions()).notes == ()
    checkpoint.model.half().save_pretrained(tmp_path)
    (note,) = prune_vocabulary(Job(checkpoint=tiny(tmp_path), texts=TEXTS), VocabularyOptions()).notes
    assert note.startswith("the weights came in float16 and are written in float32, which takes twice the bytes")


def test_no_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vocabulary keeps what the texts use, and there are none"):
        prune_vocabulary(Job(checkpoint=tiny(tmp_path)), VocabularyOptions())
