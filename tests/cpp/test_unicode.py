"""What the C++ tokenizer takes each character of Unicode for is what the installed `tokenizers` takes it for."""

from typing import Any

import pytest
from tokenizers import normalizers, pre_tokenizers

from tests.cpp.driver import Driver

_COLUMNS = ("removed", "space", "punctuation", "nonspacing", "combining", "chinese", "class", "lower", "canonical", "compatible")


@pytest.fixture(scope="module")
def characters(driver: Driver) -> dict[str, dict[str, Any]]:
    rows = {chr(code): dict(zip(_COLUMNS, values, strict=True)) for code, *values in driver("characters")}
    assert len(rows) == 0x110000 - 0x800
    return rows


def _bert(**flags: bool) -> normalizers.BertNormalizer:
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    return normalizers.BertNormalizer(**(off | flags))


def _wrong(characters: dict[str, dict[str, Any]], check: Any) -> list[str]:
    return [hex(ord(c)) for c, row in characters.items() if not check(c, row)]


def test_what_bert_removes_and_takes_for_space(characters: dict[str, dict[str, Any]]) -> None:
    clean = _bert(clean_text=True)

    def check(c: str, row: dict[str, Any]) -> bool:
        expected = "ab" if row["removed"] else "a b" if row["space"] else f"a{c}b"
        return bool(clean.normalize_str(f"a{c}b") == expected)

    assert _wrong(characters, check) == []


def test_chinese_characters(characters: dict[str, dict[str, Any]]) -> None:
    spaced = _bert(handle_chinese_chars=True)
    assert _wrong(characters, lambda c, row: spaced.normalize_str(c) == (f" {c} " if row["chinese"] else c)) == []


def test_punctuation_and_space_between_words(characters: dict[str, dict[str, Any]]) -> None:
    bert = pre_tokenizers.BertPreTokenizer()

    def check(c: str, row: dict[str, Any]) -> bool:
        expected = ["a", "b"] if row["space"] else ["a", c, "b"] if row["punctuation"] else [f"a{c}b"]
        return bool([word for word, _ in bert.pre_tokenize_str(f"a{c}b")] == expected)

    assert _wrong(characters, check) == []


@pytest.mark.parametrize(
    ("column", "normalizer"), [("lower", normalizers.Lowercase()), ("canonical", normalizers.NFD()), ("compatible", normalizers.NFKD())]
)
def test_what_a_character_becomes(column: str, normalizer: Any, characters: dict[str, dict[str, Any]]) -> None:
    assert _wrong(characters, lambda c, row: normalizer.normalize_str(c) == row[column]) == []


def test_marks(characters: dict[str, dict[str, Any]]) -> None:
    accents, combining = _bert(strip_accents=True), normalizers.StripAccents()
    plain = {c: row for c, row in characters.items() if row["canonical"] == c}
    assert _wrong(plain, lambda c, row: (accents.normalize_str(f"a{c}") == "a") == row["nonspacing"]) == []
    assert _wrong(characters, lambda c, row: (combining.normalize_str(f"a{c}") == "a") == row["combining"]) == []


def test_the_order_of_marks(characters: dict[str, dict[str, Any]]) -> None:
    """A mark moves before one of class 240, and behind one of class 1, where its own class lies between."""
    nfd, plain = normalizers.NFD(), {c: row for c, row in characters.items() if row["canonical"] == c}
    assert _wrong(plain, lambda c, row: (nfd.normalize_str(f"a\u0345{c}") != f"a\u0345{c}") == (0 < row["class"] < 240)) == []
    assert _wrong(plain, lambda c, row: (nfd.normalize_str(f"a{c}\u0334") != f"a{c}\u0334") == (row["class"] > 1)) == []
