"""A word -> a rough class of words that can stand in its place. It looks at the word alone, and is no part-of-speech tagger."""

_CLOSED: dict[str, str] = {
    "determiner": "a an the this that these those my your his her its our their some any no each every all both another such",
    "pronoun": "i you he she it we they me him us them myself yourself himself herself itself ourselves themselves mine yours",
    "preposition": "of in on at by for with about against between into through during before after above below to from up down over under"
    " off out near since until without within upon",
    "conjunction": "and or but nor so yet because although though while if unless whether than as",
    "auxiliary": "am is are was were be been being have has had do does did can could will would shall should may might must",
    "question": "who whom whose what which when where why how",
    "negation": "not never none nobody nothing isn't aren't wasn't weren't don't doesn't didn't can't cannot couldn't won't wouldn't"
    " shouldn't haven't hasn't hadn't",
}
"""Words of English that are few and that matter by themselves."""
_CLASSES = {word: name for name, words in _CLOSED.items() for word in words.split()}
_SUFFIXES = ("ing", "ed", "ly", "tion", "sion", "ment", "ness", "ity", "able", "ible", "ful", "less", "ous", "ive", "al", "er", "est", "s")
"""The longest that fits counts."""
_BY_LENGTH = tuple(sorted(_SUFFIXES, key=len, reverse=True))
_SHORTEST_STEM = 3
"""Letters before a suffix: "king" and "red" have none."""


def is_function_word(word: str) -> bool:
    """Whether the word is of a closed class; another in its place often turns the meaning."""
    return word.lower().replace("’", "'") in _CLASSES


def word_class(word: str) -> str:
    """A closed class of English, or number, mixed (letters and digits), name (a capital first), or a suffix."""
    lower = word.lower().replace("’", "'")
    if lower in _CLASSES:
        return _CLASSES[lower]
    if any(letter.isdigit() for letter in word):
        return "number" if not any(letter.isalpha() for letter in word) else "mixed"
    if word[:1].isupper():
        return "name"
    suffix = next((suffix for suffix in _BY_LENGTH if lower.endswith(suffix) and len(lower) >= len(suffix) + _SHORTEST_STEM), "")
    return f"-{suffix}"
