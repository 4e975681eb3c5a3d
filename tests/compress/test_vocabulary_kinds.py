"""Method `vocabulary` on tokenizer.json's three kinds by themselves: what must stay for the same cuts, and for other texts."""

from collections.abc import Sequence
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from trtbert.compress.vocabulary import _byte_pairs, _unigrams

BPE: dict[str, Any] = {"continuing_subword_prefix": None, "end_of_word_suffix": None, "byte_fallback": False, "unk_token": None}
BYTES = [f"<0x{number:02X}>" for number in range(256)]


def bpe(model: dict[str, Any]) -> Tokenizer:
    numbers = {token: number for number, token in enumerate(model["vocab"])}
    options = {name: model[name] for name in BPE if model[name] is not None}
    return Tokenizer(models.BPE(numbers, [tuple(merge) for merge in model["merges"]], **options))


def unigram(model: dict[str, Any]) -> Tokenizer:
    return Tokenizer(models.Unigram([tuple(piece) for piece in model["vocab"]], model["unk_id"], model["byte_fallback"]))


def cut(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[str]]:
    return [tokenizer.encode(text).tokens for text in texts]


def test_a_token_that_two_merges_make() -> None:
    """abc comes of bc where the whole text is cut, though ab and c, a merge listed before a and bc, make it as well."""
    vocab = ["a", "b", "c", "x", "bc", "ab", "xab", "abc", "xx"]
    merges = [["b", "c"], ["a", "b"], ["x", "ab"], ["ab", "c"], ["a", "bc"], ["x", "x"]]
    model, texts = BPE | {"vocab": vocab, "merges": merges}, ["xabc", "xab"]
    before = cut(bpe(model), texts)
    assert before == [["x", "abc"], ["xab"]]
    kept = _byte_pairs(model, {token for tokens in before for token in tokens})
    assert kept == vocab[:-1] and ["x", "x"] not in model["merges"], "what no text needs goes"
    assert cut(bpe(model), texts) == before


@pytest.mark.parametrize(
    ("options", "vocab", "merges", "text", "other"),
    [
        ({"byte_fallback": True, "unk_token": "<unk>"}, ["<unk>", *BYTES, "a", "b", "ab"], [["a", "b"]], "a", "é"),
        (
            {"end_of_word_suffix": "</w>", "unk_token": "<unk>"},
            ["<unk>", "a", "b", "a</w>", "b</w>", "ab</w>"],
            [["a", "b</w>"]],
            "b",
            "ba",
        ),
        ({"continuing_subword_prefix": "##"}, ["a", "b", "##b", "##a", "ab", "aba"], [["a", "##b"], ["ab", "##a"]], "ab", "bb"),
    ],
)
def test_symbols_that_no_merge_makes(options: dict[str, Any], vocab: list[str], merges: Any, text: str, other: str) -> None:
    """Bytes and ends of words are longer than a character, and other texts are cut into them."""
    model = BPE | options | {"vocab": vocab, "merges": merges}
    before = cut(bpe(model), [text, other])
    assert len(_byte_pairs(model, before[0])) < len(vocab)
    assert cut(bpe(model), [text, other]) == before


def test_an_unknown_character_costs_what_it_did() -> None:
    """It costs 10 more than the least likely piece: without that piece, ab x cd would be likelier than a bxc d."""
    vocab = [["<unk>", 0.0], ["a", -15.0], ["bxc", -15.0], ["d", -15.0], ["ab", -0.1], ["cd", -0.1], ["bxcd", -45.0], ["zz", -50.0]]
    model, texts = {"unk_id": 0, "byte_fallback": False, "vocab": vocab}, ["abxcd", "abcd"]
    before = cut(unigram(model), texts)
    assert before == [["a", "bxc", "d"], ["ab", "cd"]]
    kept = _unigrams(model, {token for tokens in before for token in tokens})
    assert "zz" in kept and "bxcd" not in kept and model["unk_id"] == kept.index("<unk>")
    assert cut(unigram(model), texts) == before


def test_bytes_of_a_unigram_stay() -> None:
    vocab = [["<unk>", 0.0], *([token, -20.0] for token in BYTES), ["a", -1.0], ["ab", -2.0], ["b", -2.0]]
    model = {"unk_id": 0, "byte_fallback": True, "vocab": vocab}
    before = cut(unigram(model), ["a", "é"])
    assert "ab" not in _unigrams(model, {"a"})
    assert cut(unigram(model), ["a", "é"]) == before == [["a"], ["<0xC3>", "<0xA9>"]]
