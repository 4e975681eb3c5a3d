"""Files of texts or labelled examples -> values, checked."""

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtbert.errors import InputError
from trtbert.tasks import Task

Text = str | tuple[str, str]
"""A text, or a pair of texts that the model reads together."""

_PAIRS: dict[str, tuple[str, ...]] = {
    "text": ("text_pair",),
    "text1": ("text2",),
    "sentence1": ("sentence2",),
    "premise": ("hypothesis",),
    "question1": ("question2",),
    "question": ("context", "passage", "document", "text_pair", "sentence"),
    "query": ("passage", "document", "context", "text_pair", "text"),
}
"""Columns of a first text, each with those that hold the second one of the pair."""
_TEXTS = ("text", "sentence", "question", "query", "sentence1", "premise", "content", "review", "title", "utterance", "tweet", "tokens")
"""Columns of a text, where there is no pair; tokens are joined by spaces."""
_LABELS = ("label", "category", "class", "labels", "intent", "target")
_TAGS = ("tags", "ner_tags", "labels")
_SIMILARITIES = ("score", "similarity", "label", "stars")
_RELEVANCES = ("relevance", "label", "score")
_ANSWERS = ("answers", "answer")

_MAX_LINE = 2**24
"""Bytes of a line: more are no text, and reading on would fill the memory."""


@dataclass(frozen=True)
class _Row:
    """What a line or record holds: a text, {column: value}, or whatever JSON there is; `place` says where, for messages."""

    place: str
    value: Any


@dataclass(frozen=True)
class Example:
    """A text with its gold answer.

    text-classification: a tuple of label names, one, or any number for a model of several labels a text; a number for regression.
    token-classification: a tuple of tags, one for each of `tokens`; the text is the tokens joined by single spaces.
    question-answering: a tuple of answers that are all right; empty where the context holds none. The text is (question, context).
    sentence-similarity: a number, of a pair of texts; or a tuple of one class, of a single text.
    text-ranking: the relevance, a number, of (query, document).
    """

    text: Text
    label: Any
    tokens: tuple[str, ...] = ()
    start: int = 0
    """Of question-answering: where the context holds the first answer; of several places the nearest is meant."""


class Texts:
    """The texts of a file, read anew with each loop over them, so that memory does not grow with the file."""

    def __init__(self, path: Path, column: str | None) -> None:
        self.path, self.column = path, column
        self.num_skipped = 0
        """Rows of the latest loop that held an empty text; blank lines of a .csv, .tsv, .jsonl or .conll are no rows."""

    def __iter__(self) -> Iterator[Text]:
        self.num_skipped, is_empty = 0, True
        for row in _rows(self.path, _READERS):
            text = _text(row, self.column)
            if all(part.strip() for part in ([text] if isinstance(text, str) else text)):
                is_empty = False
                yield text
            else:
                self.num_skipped += 1
        if is_empty:
            raise InputError(f"{self.path} holds no text; give a file with at least one.")


def read_texts(path: Path, *, column: str | None = None) -> Texts:
    """The texts, or pairs of texts, of a UTF-8 file; loop over them as often as needed.

    .txt: a text a line. .csv, .tsv (tabs, no quotes): a header and rows. .jsonl: a text, a pair [a, b], or an object a line.
    .conll: a token a line, first column, with blank lines between sentences. .json: SQuAD, the one format that is read whole.
    `column` names the text's column (the first of a pair) where it is not one of the usual. The first text is read at once: raises
    InputError for a file that cannot be used, and while looping for a later row that cannot.
    """
    texts = Texts(path, None if path.suffix.lower() in (".txt", ".conll") else column)  # which have no columns
    next(iter(texts))
    return texts


def read_examples(
    path: Path, task: Task, *, labels: Collection[str] = (), column: str | None = None, is_number: bool = False
) -> list[Example]:
    """The labelled examples of a file of the kinds that `read_texts` reads.

    `labels` are the model's, in the order of their ids: the file may name labels and tags, or give ids. `is_number`: those of
    text-classification are numbers, for a model of regression.
    Raises InputError for a file that cannot be used, a label that the model does not have, and a task that has no labels.
    """
    if task not in _EXAMPLES:
        raise InputError(
            f"{path} is given as labelled examples, and a model for {task} has no labels; one for {', '.join(_EXAMPLES)} has. Give the "
            "file for its texts alone, with --texts, and leave --eval-data out."
        )
    make, suffixes = (_measured, _TABLES) if is_number else _EXAMPLES[task]
    names = {str(index): label for index, label in enumerate(labels)} | {label: label for label in labels}
    examples = [make(row, column, names) for row in _rows(path, suffixes)]
    if not examples:
        raise InputError(f"{path} holds no example; give a file with at least one.")
    return examples


def read_labels(path: Path, task: Task, *, column: str | None = None) -> tuple[str, ...]:
    """The labels that a file of classified or tagged texts names, sorted; O, of no entity, comes first. `column` is as in `read_examples`.

    Raises InputError for a file that cannot be used, or whose labels are one alone, or numbers that are not whole.
    """
    make, suffixes = _EXAMPLES[task]
    found = {label for row in _rows(path, suffixes) for label in make(row, column, _AnyName()).label}
    if len(found) < 2:
        raise InputError(
            f"{path} holds {f'one label, {found.pop()!r}' if found else 'no label'}, and a new head has two or more to tell apart. Give a "
            "file with examples of each."
        )
    numbers = [_as_number(label) for label in found]
    if all(map(math.isfinite, numbers)) and not all(map(float.is_integer, numbers)):
        raise InputError(
            f"The labels of {path} are numbers ({', '.join(sorted(found)[:4])}{', ...' * (len(found) > 4)}), and a new head has classes. "
            "Name the classes by words; to learn the numbers themselves give a model with a head of one label, which transformers' "
            "AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=1) makes."
        )
    return tuple(sorted(found, key=lambda label: (label != "O", label)))


class _AnyName(dict[str, str]):
    """The names of a model that is still to get its labels: all are right."""

    def get(self, name: str, default: Any = None) -> str:
        return name


def _classified(row: _Row, column: str | None, names: Mapping[str, str]) -> Example:
    value = _value(row, _LABELS, "label")
    values = value if isinstance(value, list) else [value]
    return Example(_text(row, column), tuple(sorted({_label(row, value, names) for value in values})))


def _measured(row: _Row, column: str | None, _names: Mapping[str, str]) -> Example:
    return Example(_text(row, column), _number(row, (*_LABELS, "score"), "label, of a model that gives numbers,"))


def _tagged(row: _Row, _column: str | None, names: Mapping[str, str]) -> Example:
    tokens, tags = _value(row, ("tokens",), "words"), _value(row, _TAGS, "tags")
    text = _joined(row, tokens)
    if not isinstance(tags, list) or len(tags) != len(tokens):
        raise InputError(f"{row.place}: there must be a list of {len(tokens)} tags, one for each token, got {_short(tags)}.")
    return Example(text, tuple(_label(row, tag, names) for tag in tags), tuple(tokens))


def _answered(row: _Row, column: str | None, _names: Mapping[str, str]) -> Example:
    value = _value(row, _ANSWERS, "answers")
    starts = value.get("answer_start") if isinstance(value, Mapping) else None
    value = value.get("text") if isinstance(value, Mapping) else value
    found = value if isinstance(value, list) else [value]
    answers = [answer.get("text") if isinstance(answer, Mapping) else answer for answer in found]
    if starts is None:
        starts = [answer.get("answer_start") for answer in found if isinstance(answer, Mapping)]
    start = next(iter(starts), 0) if isinstance(starts, list) else starts
    if not all(isinstance(answer, str) for answer in answers):
        raise InputError(f'{row.place}: answers must be a string, a list of strings, or {{"text": [strings]}}, got {_short(value)}.')
    return Example(_pair(row, column), tuple(filter(str.strip, answers)), start=start if isinstance(start, int) else 0)


def _similar(row: _Row, column: str | None, _names: Mapping[str, str]) -> Example:
    text = _text(row, column)
    if isinstance(text, str):
        return Example(text, (_label(row, _value(row, _LABELS, "class (or for a second text, of a pair)"), _AnyName()),))
    return Example(text, _number(row, _SIMILARITIES, "similarity"))


def _ranked(row: _Row, column: str | None, _names: Mapping[str, str]) -> Example:
    relevance = _number(row, _RELEVANCES, "relevance")
    if relevance < 0:
        raise InputError(f"{row.place}: a relevance must be 0 or more, got {relevance:g}. Give 0 to a document that does not answer.")
    return Example(_pair(row, column), relevance)


_TABLES = (".csv", ".jsonl", ".tsv")
_EXAMPLES: dict[Task, tuple[Callable[[_Row, str | None, Mapping[str, str]], Example], tuple[str, ...]]] = {
    "text-classification": (_classified, _TABLES),
    "token-classification": (_tagged, (".conll", ".jsonl")),
    "question-answering": (_answered, (".json", ".jsonl")),
    "sentence-similarity": (_similar, _TABLES),
    "text-ranking": (_ranked, _TABLES),
}
"""How a row becomes an example, and the files that can hold such rows."""


def _text(row: _Row, column: str | None) -> Text:
    value = row.value
    if column is None and isinstance(value, str):
        return value
    if column is None and isinstance(value, list) and len(value) == 2:
        return _string(row, value[0]), _string(row, value[1])
    columns = _text_columns(row, column)
    parts = [_joined(row, value[key]) if key.strip().lower() == "tokens" else _string(row, value[key]) for key in columns]
    return (parts[0], parts[1]) if len(parts) == 2 else parts[0]


def _text_columns(row: _Row, column: str | None) -> list[str]:
    """The names, as the file has them, of the columns with the text or with both texts of a pair."""
    known = _columns(row)
    if column is not None and column not in row.value:
        raise InputError(f"{row.place}: there is no column {column!r}; choose one of {list(row.value)}.")
    chosen = known if column is None else {column.strip().lower(): column}
    pairs = [[chosen[first], known[second]] for first in _PAIRS if first in chosen for second in _PAIRS[first] if second in known]
    singles = [[chosen[name]] for name in _TEXTS if name in chosen] if column is None else [[column]]
    if not pairs and not singles:
        raise InputError(f"{row.place}: none of the columns {list(row.value)} is known to hold texts; choose one, or name it 'text'.")
    return (pairs or singles)[0]


def _pair(row: _Row, column: str | None) -> tuple[str, str]:
    text = _text(row, column)
    if isinstance(text, str):
        pairs = " or ".join(f"{first} and {seconds[0]}" for first, seconds in _PAIRS.items())
        raise InputError(f"{row.place}: there must be two texts, got the columns {list(row.value)}. Name them, for example, {pairs}.")
    return text


def _columns(row: _Row) -> dict[str, str]:
    """The columns' names in lower case, each with the name that the file has."""
    if not isinstance(row.value, Mapping):
        raise InputError(f"{row.place}: there must be named columns (or a text, or a pair, with no label), got {_short(row.value)}.")
    return {name.strip().lower(): name for name in row.value}


def _value(row: _Row, names: Iterable[str], what: str) -> Any:
    """What the first of the columns `names` that there is holds."""
    known = _columns(row)
    for name in names:
        if name in known:
            return row.value[known[name]]
    raise InputError(f"{row.place}: there is no column for the {what}, got {list(row.value)}. Name it {' or '.join(names)}.")


def _label(row: _Row, value: Any, names: Mapping[str, str]) -> str:
    """The model's name for a label that the file names, or gives the id of."""
    name = "" if value is None else str(value).strip()
    if not name:
        raise InputError(f"{row.place}: there is no label, got {_short(value)}. Give it one, or leave the row out.")
    label = names.get(name)
    if label is None:
        labels = list(dict.fromkeys(names.values()))
        shown = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
        other = ' Where the model gives a number, set problem_type to "regression" in its config.json.' * (len(labels) == 1)
        raise InputError(
            f"{row.place}: the model has no label {repr(value)[:80]}; it has {len(labels)}: {shown}. Give one of these, or its id from 0."
            f"{other}"
        )
    return label


def _number(row: _Row, names: Iterable[str], what: str) -> float:
    value = _value(row, names, what)
    number = _as_number(value)
    if not math.isfinite(number):
        raise InputError(f"{row.place}: the {what} must be a number, got {_short(value)}.")
    return number


def _as_number(value: Any) -> float:
    """NaN of what is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _string(row: _Row, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{row.place}: a text must be a string, got {_short(value)}.")
    return value


def _joined(row: _Row, tokens: Any) -> str:
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise InputError(f"{row.place}: tokens must be a list of strings, got {_short(tokens)}.")
    return " ".join(tokens)


def _short(value: Any) -> str:
    return f"{repr(value)[:80]} ({type(value).__name__})"


def _rows(path: Path, suffixes: Collection[str]) -> Iterator[_Row]:
    _check_file(path)
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise InputError(f"{path} must end in one of {', '.join(suffixes)}, which says how it is read. Save it as one of these.")
    return _READERS[suffix](path)


def _check_file(path: Path) -> None:
    try:
        if path.is_file():
            return
        if path.exists():  # A pipe cannot be read twice.
            raise InputError(f"{path} is a folder, or no plain file; give a file.")
    except OSError as error:  # E.g. a name that is too long.
        raise InputError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    raise InputError(f"{path} does not exist. Check the path.")


def _lines(path: Path, max_bytes: int = _MAX_LINE) -> Iterator[tuple[int, str]]:
    """Each line with its number from 1; only a line feed ends one, so that numbers are those that an editor shows."""
    try:
        with path.open("rb") as stream:
            for number, raw in enumerate(iter(lambda: stream.readline(max_bytes + 1), b""), 1):
                if len(raw) > max_bytes:
                    raise InputError(f"{path}, line {number}: a line of more than {max_bytes} bytes is no text. Check the file.")
                yield number, decoded_line(raw, f"{path}, line {number}", "utf-8-sig" if number == 1 else "utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from error


def decoded_line(raw: bytes, place: str, encoding: str) -> str:
    """The text of a line; InputError, which begins with `place`, where it is no UTF-8."""
    if b"\0" in raw:
        raise InputError(f"{place}: there is a NUL byte, so this is no UTF-8 text. Save the file as UTF-8.")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place}: byte {error.start} is {raw[error.start]:#x}, which is no UTF-8. Save the file as UTF-8 text."
        ) from error


def _text_rows(path: Path) -> Iterator[_Row]:
    return (_Row(f"{path}, line {number}", line.strip()) for number, line in _lines(path))


def _table_rows(path: Path) -> Iterator[_Row]:
    """Rows of a .csv, whose fields may be quoted, or of a .tsv, where a quote is a character as others: so GLUE writes them."""
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_LINE))
    lines = (line for _, line in _lines(path))
    is_csv = path.suffix.lower() == ".csv"
    reader = csv.reader(lines, strict=True) if is_csv else csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    header: list[str] = []
    try:
        for fields in reader:
            place = f"{path}, line {reader.line_num}"
            if not any(field.strip() for field in fields):
                continue
            if header and len(fields) != len(header):
                fix = "Quote a text that holds a comma." if is_csv else "A text must hold no tab."
                raise InputError(f"{place}: there must be {len(header)} columns as in the header, got {len(fields)}. {fix}")
            if header:
                yield _Row(place, dict(zip(header, fields, strict=True)))
            header = header or _header(fields, place)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}. Check the quotes up to this line.") from error


def _header(fields: list[str], place: str) -> list[str]:
    """The names of the columns; InputError where two that have one cannot be told apart, since case does not count."""
    header = [name.strip() for name in fields]
    named = Counter(name.lower() for name in header if name)
    if repeated := [name for name in header if named[name.lower()] > 1]:
        raise InputError(f"{place}: the header names a column more than once: {', '.join(repeated)}. Rename or remove all but one.")
    return header


def _json_rows(path: Path) -> Iterator[_Row]:
    for number, line in _lines(path):
        if line.strip():
            place = f"{path}, line {number}"
            yield _Row(place, _parsed(line, place))


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: this is not valid JSON ({error}). A .jsonl file holds one value a line, a .json file one.") from error


def _conll_rows(path: Path) -> Iterator[_Row]:
    """{"tokens", "tags"} of each sentence; without tags where a line has one column only."""
    words: list[list[str]] = []
    place = ""
    for number, line in _lines(path):
        line = line.rstrip()
        if not line or line.startswith("-DOCSTART-"):
            yield from _sentence(words, place)
            words = []
            continue
        place = place if words else f"{path}, sentence at line {number}"
        words.append(line.split("\t" if "\t" in line else " "))
    yield from _sentence(words, place)


def _sentence(words: list[list[str]], place: str) -> Iterator[_Row]:
    tags = {"tags": [word[-1] for word in words]} if all(len(word) > 1 for word in words) else {}
    if words:
        yield _Row(place, {"tokens": [word[0] for word in words], **tags})


def _squad_rows(path: Path) -> Iterator[_Row]:
    content = _parsed("".join(line for _, line in _lines(path, max_bytes=2**40)), str(path))
    try:
        paragraphs = [paragraph for article in content["data"] for paragraph in article["paragraphs"]]
        found = [(paragraph["context"], qa["question"], qa["answers"]) for paragraph in paragraphs for qa in paragraph["qas"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is not laid out as SQuAD is: data, paragraphs, context and qas, question and answers.") from error
    for index, (context, question, answers) in enumerate(found, 1):
        yield _Row(f"{path}, question {index}", {"question": question, "context": context, "answers": answers})


_READERS: dict[str, Callable[[Path], Iterator[_Row]]] = {
    ".conll": _conll_rows,
    ".csv": _table_rows,
    ".json": _squad_rows,
    ".jsonl": _json_rows,
    ".tsv": _table_rows,
    ".txt": _text_rows,
}
