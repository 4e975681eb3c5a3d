"""Files of every kind give their texts and examples; a file that cannot be used is named with its line and what to do."""

import csv
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trtbert.data import Example, read_examples, read_labels, read_texts
from trtbert.errors import InputError
from trtbert.tasks import Task

LABELS = ("negative", "neutral", "positive")
TAGS = ("O", "B-PER", "I-PER")
SQUAD = {
    "data": [
        {
            "title": "Rhine",
            "paragraphs": [
                {
                    "context": "The Rhine is long.",
                    "qas": [
                        {"question": "What is long?", "answers": [{"text": "The Rhine", "answer_start": 0}, {"text": "Rhine"}]},
                        {"question": "What is short?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ]
}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "one\n  two \n\nthree", ["one", "two", "three"]),
        ("a.TXT", "one\r\ntwo\r\n", ["one", "two"]),
        ("a.txt", b"\xef\xbb\xbfone\n", ["one"]),
        ("a.txt", "a\u2028b\x0bc\n", ["a\u2028b\x0bc"]),
        ("a.csv", "id,text\n1,one\n2,two\n", ["one", "two"]),
        ("a.csv", b'\xef\xbb\xbftext,label\r\n"one, ""1""",x\r\n\r\n"two\nlines",y\r\n,\r\n', ['one, "1"', "two\nlines"]),
        ("a.csv", "Title, Text ,Label,,\nt,one,x,,\n", ["one"]),
        ("a.csv", "sentence1,sentence2,label\na,b,0\n", [("a", "b")]),
        ("a.csv", "hypothesis,premise\nb,a\n", [("a", "b")]),
        ("a.csv", "text,query\nd,q\n", [("q", "d")]),
        ("a.csv", "question,answer\nq,a\n", ["q"]),
        ("a.tsv", 'question\tsentence\n"q\ts "x"\n', [('"q', 's "x"')]),
        ("a.tsv", "sentence\tlabel\r\na, b\t1\r\n", ["a, b"]),
        ("a.jsonl", jsonl("one", {"text": "two"}, ["a", "b"], {"question": "q", "context": "c"}), ["one", "two", ("a", "b"), ("q", "c")]),
        ("a.jsonl", jsonl({"tokens": ["EU", "rejects"], "tags": [1, 0]}) + "\n \n", ["EU rejects"]),
        ("a.conll", "EU\tB-ORG\nrejects\tO\n\t\nPeter\tO\n\n\n", ["EU rejects", "Peter"]),
        ("a.conll", "-DOCSTART- -X- O O\r\n\r\nEU NNP  I-NP B-ORG\r\n\u00a0x NN B-NP O", ["EU \u00a0x"]),
        ("a.conll", "only\nwords\n", ["only words"]),
        ("a.json", json.dumps(SQUAD), [("What is long?", "The Rhine is long."), ("What is short?", "The Rhine is long.")]),
    ],
)
def test_texts(write: Any, name: str, content: str | bytes, expected: list[Any]) -> None:
    texts = read_texts(write(name, content))
    assert list(texts) == expected
    assert list(texts) == expected, "the file is read anew"


@pytest.mark.parametrize(
    ("name", "content", "column", "expected"),
    [
        ("a.csv", "text,Note\na,b\n", "Note", ["b"]),
        ("a.csv", "text,premise,hypothesis\na,b,c\n", "premise", [("b", "c")]),
        ("a.csv", "question,context,text\nq,c,t\n", "text", ["t"]),
        ("a.jsonl", jsonl({" Premise": "a", "hypothesis": "b"}), " Premise", [("a", "b")]),
        ("a.conll", "EU\tO\n", "tokens", ["EU"]),
    ],
)
def test_a_column_that_is_chosen(write: Any, name: str, content: str, column: str, expected: list[Any]) -> None:
    assert list(read_texts(write(name, content), column=column)) == expected


def test_empty_texts_are_counted(write: Any) -> None:
    texts = read_texts(write("a.jsonl", jsonl("", "one", ["a", " "], {"text": "\n"}, "two") + "\n"))
    assert list(texts) == ["one", "two"]
    assert texts.num_skipped == 3
    assert list(texts) == ["one", "two"]
    assert texts.num_skipped == 3, "of the latest loop"


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".conll"])
def test_memory_does_not_grow_with_the_file(write: Any, suffix: str) -> None:
    text = "a text of about eighty characters, so that the whole file is larger than what is allowed"
    lines = {".txt": text, ".jsonl": json.dumps({"text": text}), ".csv": f'"{text}",1', ".conll": f"{'word' * 20} O\n"}
    texts = read_texts(write("a" + suffix, ("text,label\n" if suffix == ".csv" else "") + f"{lines[suffix]}\n" * 20_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in texts) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_a_long_field(write: Any) -> None:
    before = csv.field_size_limit()
    assert [len(text) for text in read_texts(write("a.csv", f'text\n"{"long " * 60_000}"\n'))] == [300_000]
    assert csv.field_size_limit() >= before


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("a.xlsx", "x", None, r"a.xlsx must end in one of .conll, .csv, .json, .jsonl, .tsv, .txt, which says how"),
        ("a", "x", None, r"must end in one of"),
        ("a.txt", "", None, r"a.txt holds no text; give a file"),
        ("a.txt", "\n \n", None, r"a.txt holds no text"),
        ("a.csv", "text\n", None, r"a.csv holds no text"),
        ("a.jsonl", "\n", None, r"a.jsonl holds no text"),
        ("a.conll", "\n", None, r"a.conll holds no text"),
        ("a.txt", b"one\nna\xefve\n", None, r"a.txt, line 2: byte 2 is 0xef, which is no UTF-8. Save the file as UTF-8"),
        ("a.csv", b"text\none\nna\xefve\n", None, r"a.csv, line 3: byte 2 is 0xef"),
        ("a.txt", "one\n".encode("utf-16"), None, r"a.txt, line 1: there is a NUL byte, so this is no UTF-8 text"),
        ("a.jsonl", b'"one"\n"a\0b"\n', None, r"a.jsonl, line 2: there is a NUL byte"),
        ("a.csv", "id,text\n1,one\n", "txt", r"a.csv, line 2: there is no column 'txt'; choose one of \['id', 'text'\]"),
        ("a.csv", "id,note\n1,one\n", None, r"line 2: none of the columns \['id', 'note'\] is known to hold texts; choose one, or"),
        ("a.csv", "text,label\none, two,1\n", None, r"line 2: there must be 2 columns as in the header, got 3. Quote a text that"),
        ("a.csv", "text,label\none\n", None, r"line 2: there must be 2 columns as in the header, got 1"),
        ("a.csv", "text, Text,label\na,b,c\n", None, r"line 1: the header names a column more than once: text, Text. Rename or remove"),
        ("a.tsv", "text\tlabel\na\tb\tc\n", None, r"line 2: there must be 2 columns as in the header, got 3. A text must hold no tab"),
        ("a.csv", 'text\n"one\ntwo\n', None, r"line 3: unexpected end of data. Check the quotes up to this line"),
        ("a.csv", 'text\n"one" two\n', None, r"line 2: ',' expected after '\"'. Check the quotes"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', None, r"a.jsonl, line 2: this is not valid JSON \(Expecting value"),
        ("a.jsonl", "5\n", None, r"line 1: there must be named columns \(or a text, or a pair, with no label\), got 5 \(int\)"),
        ("a.jsonl", '["a", "b", "c"]\n', None, r"line 1: there must be named columns .* got \['a', 'b', 'c'\] \(list\)"),
        ("a.jsonl", '["a", null]\n', None, r"line 1: a text must be a string, got None \(NoneType\)"),
        ("a.jsonl", '{"text": 5}\n', None, r"line 1: a text must be a string, got 5 \(int\)"),
        ("a.jsonl", '{"tokens": "EU"}\n', None, r"line 1: tokens must be a list of strings, got 'EU' \(str\)"),
        ("a.jsonl", '{"tokens": ["EU", 5]}\n', None, r"line 1: tokens must be a list of strings, got \['EU', 5\] \(list\)"),
        ("a.json", '{"data": [', None, r"a.json: this is not valid JSON .* a .json file one"),
        ("a.json", '[{"text": "a"}]', None, r"a.json is not laid out as SQuAD is: data, paragraphs, context and qas, question and answers"),
        ("a.json", '{"data": [{"paragraphs": [{"context": "c"}]}]}', None, r"a.json is not laid out as SQuAD"),
    ],
)
def test_a_file_that_cannot_be_used(write: Any, name: str, content: str | bytes, column: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(read_texts(write(name, content), column=column))


@pytest.mark.parametrize(
    ("name", "start", "repeated", "times", "message"),
    [
        ("a.txt", "", "x", 2**24 + 1, r"a.txt, line 1: a line of more than 16777216 bytes is no text. Check the file"),
        ("a.csv", 'text\n"', "1024 letters".ljust(1023) + "\n", 2**14 + 1, r"field larger than field limit \(16777216\). Check the quotes"),
        ("a.jsonl", "", "[", 100_000, r"a.jsonl, line 1: this is not valid JSON \(maximum recursion"),
        ("a.jsonl", "", "1", 5_000, r"a.jsonl, line 1: this is not valid JSON \(Exceeds the limit"),
    ],
)
def test_what_has_no_end(write: Any, name: str, start: str, repeated: str, times: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_texts(write(name, start + repeated * times))


def test_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "unreadable.txt").symlink_to("/proc/self/mem")
    (tmp_path / "folder.txt").mkdir()
    for name, message in {
        "none.txt": r"none.txt does not exist. Check the path",
        "folder.txt": r"folder.txt is a folder, or no plain file; give a file",
        "pipe.txt": r"pipe.txt is a folder, or no plain file",
        "unreadable.txt": r"unreadable.txt cannot be read: Input/output error. Check the file and its permissions",
        "x" * 300 + ".txt": r"xxx.txt cannot be read: File name too long. Check the path",
    }.items():
        with pytest.raises(InputError, match=message) as raised:
            read_texts(tmp_path / name)
        assert raised.value.exit_code == 2


def test_a_wrong_first_row_is_told_before_any_loop(write: Any) -> None:
    with pytest.raises(InputError, match="none of the columns"):
        read_texts(write("a.csv", "id\n1\n"))
    texts = read_texts(write("a.jsonl", '"fine"\n5\n'))
    with pytest.raises(InputError, match="line 2"):
        list(texts)


def check_examples(path: Path, task: Task, expected: list[Example], labels: tuple[str, ...] = ()) -> None:
    assert read_examples(path, task, labels=labels) == expected


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "text,category\na,positive\nb,0\n,2\n", [("a", ("positive",)), ("b", ("negative",)), ("", ("positive",))]),
        ("a.tsv", "sentence\tlabel\na\tneutral\n", [("a", ("neutral",))]),
        ("a.csv", "premise,hypothesis,Label\na,b,1\n", [(("a", "b"), ("neutral",))]),
        ("a.jsonl", jsonl({"text": "a", "label": 2}, {"text": "b", "label": "neutral"}), [("a", ("positive",)), ("b", ("neutral",))]),
        (
            "a.jsonl",
            jsonl({"text": "a", "labels": ["positive", 0, 2]}, {"text": "b", "labels": []}),
            [("a", ("negative", "positive")), ("b", ())],
        ),
    ],
)
def test_text_classification(write: Any, name: str, content: str, expected: list[Any]) -> None:
    check_examples(write(name, content), "text-classification", [Example(text, label) for text, label in expected], LABELS)


def test_a_name_goes_before_an_id(write: Any) -> None:
    path = write("a.jsonl", jsonl({"text": "a", "label": 1}, {"text": "b", "label": "0"}, {"text": "c", "label": True}))
    assert [example.label for example in read_examples(path, "text-classification", labels=("2", "1", "True"))] == [
        ("1",),
        ("2",),
        ("True",),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.conll", "Ada\tB-PER\nKing\tI-PER\nsat\tO\n\n"),
        ("a.conll", "-DOCSTART- O\n\nAda NNP 1\nKing NNP 2\nsat VBD 0"),
        ("a.jsonl", jsonl({"tokens": ["Ada", "King", "sat"], "tags": ["B-PER", "I-PER", "O"]})),
        ("a.jsonl", jsonl({"id": "7", "tokens": ["Ada", "King", "sat"], "ner_tags": [1, 2, 0]})),
    ],
)
def test_token_classification(write: Any, name: str, content: str) -> None:
    expected = [Example("Ada King sat", ("B-PER", "I-PER", "O"), ("Ada", "King", "sat"))]
    check_examples(write(name, content), "token-classification", expected, TAGS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(SQUAD, indent=1)),
        (
            "a.jsonl",
            jsonl(
                {"question": "What is long?", "context": "The Rhine is long.", "answers": ["The Rhine", "Rhine"]},
                {"question": "What is short?", "context": "The Rhine is long.", "answers": []},
            ),
        ),
        (
            "a.jsonl",
            jsonl(
                {"question": "What is long?", "context": "The Rhine is long.", "answers": {"text": ["The Rhine", "Rhine"]}},
                {"question": "What is short?", "context": "The Rhine is long.", "answer": ""},
            ),
        ),
    ],
)
def test_question_answering(write: Any, name: str, content: str) -> None:
    context = "The Rhine is long."
    expected = [Example(("What is long?", context), ("The Rhine", "Rhine")), Example(("What is short?", context), ())]
    check_examples(write(name, content), "question-answering", expected)


@pytest.mark.parametrize(
    "answers", [{"text": ["c"], "answer_start": [4]}, [{"text": "c", "answer_start": 4}], {"text": "c", "answer_start": 4}]
)
def test_where_an_answer_begins(write: Any, answers: object) -> None:
    path = write("a.jsonl", jsonl({"question": "q", "context": "c a c", "answers": answers}))
    check_examples(path, "question-answering", [Example(("q", "c a c"), ("c",), start=4)])


def test_a_single_answer(write: Any) -> None:
    path = write("a.jsonl", jsonl({"question": "q", "context": "c", "answer": "c"}))
    check_examples(path, "question-answering", [Example(("q", "c"), ("c",))])


@pytest.mark.parametrize("number", ["score", "similarity", "label", "stars"])
def test_sentence_similarity(write: Any, number: str) -> None:
    path = write("a.csv", f"sentence1,sentence2,{number}\na,b,4.5\nc,d,-1\n")
    check_examples(path, "sentence-similarity", [Example(("a", "b"), 4.5), Example(("c", "d"), -1.0)])


@pytest.mark.parametrize("columns", ["query,document,relevance", "query,passage,label", "query,text,score", "text,text_pair,label"])
def test_text_ranking(write: Any, columns: str) -> None:
    path = write("a.csv", f"{columns}\nq,b,1\nq,d,0\n")
    check_examples(path, "text-ranking", [Example(("q", "b"), 1.0), Example(("q", "d"), 0.0)])


def test_a_column_of_examples(write: Any) -> None:
    path = write("a.csv", "text,note,label\na,b,0\n")
    assert read_examples(path, "text-classification", labels=LABELS, column="note") == [Example("b", ("negative",))]


def wrong_examples() -> Iterator[tuple[Task, str, str, str]]:
    task: Task = "text-classification"
    yield (
        task,
        "a.csv",
        "text,label\na,0\nb,good\n",
        r"line 3: the model has no label 'good'; it has 3: negative, neutral, positive. Give one",
    )
    yield task, "a.csv", "text,label\na,3\n", r"line 2: the model has no label '3'"
    yield task, "a.csv", "text,label\na,-1\n", r"line 2: the model has no label '-1'"
    yield task, "a.jsonl", jsonl({"text": "a", "label": None}), r"line 1: there is no label, got None \(NoneType\). Give it one, or leave"
    yield task, "a.csv", "text,label\na, \n", r"line 2: there is no label, got ' ' \(str\)"
    yield task, "a.jsonl", jsonl({"text": "a", "labels": ["positive", 1.0]}), r"line 1: the model has no label 1.0;"
    yield (
        task,
        "a.csv",
        "text,rating\na,0\n",
        r"line 2: there is no column for the label, got \['text', 'rating'\]. Name it label or category",
    )
    yield task, "a.jsonl", '"alone"\n', r"line 1: there must be named columns .* got 'alone' \(str\)"
    yield task, "a.csv", "text,label\n", r"a.csv holds no example; give a file with at least one"
    yield task, "a.txt", "a\n", r"a.txt must end in one of .csv, .jsonl, .tsv"
    task = "token-classification"
    yield task, "a.conll", "\nAda\tB-LOC\n", r"sentence at line 2: the model has no label 'B-LOC'; it has 3: O, B-PER, I-PER"
    yield (
        task,
        "a.conll",
        "Ada\n",
        r"sentence at line 1: there is no column for the tags, got \['tokens'\]. Name it tags or ner_tags or labels",
    )
    yield task, "a.jsonl", jsonl({"tags": [0]}), r"line 1: there is no column for the words, got \['tags'\]. Name it tokens"
    yield task, "a.jsonl", jsonl({"tokens": ["a"], "tags": [0, 1]}), r"must be a list of 1 tags, one for each token, got \[0, 1\] \(list\)"
    yield task, "a.jsonl", jsonl({"tokens": ["a"], "tags": "O"}), r"must be a list of 1 tags, one for each token, got 'O' \(str\)"
    yield task, "a.jsonl", jsonl({"tokens": "a", "tags": [0]}), r"tokens must be a list of strings, got 'a' \(str\)"
    task = "question-answering"
    pair = {"question": "q", "context": "c"}
    wrong = r'line 1: answers must be a string, a list of strings, or \{"text": \[strings\]\}, got '
    yield task, "a.jsonl", jsonl(pair | {"answers": [5]}), wrong + r"\[5\] \(list\)"
    yield task, "a.jsonl", jsonl(pair | {"answers": {"texts": []}}), wrong + r"None \(NoneType\)"
    yield (
        task,
        "a.jsonl",
        jsonl(pair),
        r"line 1: there is no column for the answers, got \['question', 'context'\]. Name it answers or answer",
    )
    yield task, "a.jsonl", jsonl({"question": "q", "answer": "a"}), r"there must be two texts, got .*Name them, .* or question and context"
    yield (
        task,
        "a.json",
        json.dumps({"data": [{"paragraphs": [{"context": 5, "qas": SQUAD["data"][0]["paragraphs"][0]["qas"]}]}]}),
        (r"a.json, question 1: a text must be a string, got 5"),
    )
    yield task, "a.csv", "question,context,answer\nq,c,a\n", r"a.csv must end in one of .json, .jsonl"
    task = "sentence-similarity"
    yield task, "a.csv", "text,score\na,1\n", r"line 2: there is no column for the class \(or for a second text, of a pair\)"
    yield task, "a.csv", "text,label\na,\n", r"line 2: there is no label, got ''"
    for value in ("high", "nan", "1e999", ""):
        yield task, "a.csv", f"text1,text2,score\na,b,{value}\n", rf"line 2: the similarity must be a number, got '{value}' \(str\)"
    yield task, "a.jsonl", '{"text1": "a", "text2": "b", "score": [1]}', r"line 1: the similarity must be a number, got \[1\] \(list\)"
    task = "text-ranking"
    yield task, "a.csv", "query,text,label\nq,d,-1\n", r"line 2: a relevance must be 0 or more, got -1. Give 0 to a document"
    yield task, "a.csv", "query,text\nq,d\n", r"line 2: there is no column for the relevance, got"


@pytest.mark.parametrize(("task", "name", "content", "message"), list(wrong_examples()))
def test_examples_that_cannot_be_used(write: Any, task: Task, name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_examples(write(name, content), task, labels=TAGS if task == "token-classification" else LABELS)


def test_many_labels_are_not_all_listed(write: Any) -> None:
    with pytest.raises(InputError, match=r"it has 77: c0, c1, .*, c7, \.\.\.\. Give one"):
        read_examples(write("a.csv", "text,label\na,b\n"), "text-classification", labels=[f"c{i}" for i in range(77)])


@pytest.mark.parametrize("task", ["feature-extraction", "fill-mask"])
def test_tasks_without_labels(tmp_path: Path, task: Task) -> None:
    message = rf"none.csv is given as labelled .* a model for {task} has no labels; one for text-classification, .* alone, with --texts"
    with pytest.raises(InputError, match=message):
        read_examples(tmp_path / "none.csv", task)


def test_numbers_for_a_model_of_one_label(write: Any) -> None:
    path = write("a.csv", "text,label\na,0.5\n")
    with pytest.raises(InputError, match=r'no label \'0.5\'; it has 1: LABEL_0. .* gives a number, set problem_type to "regression" in'):
        read_examples(path, "text-classification", labels=("LABEL_0",))
    assert read_examples(path, "text-classification", labels=("LABEL_0",), is_number=True) == [Example("a", 0.5)]
    with pytest.raises(InputError, match="line 2: the label, of a model that gives numbers, must be a number, got 'good'"):
        read_examples(write("b.csv", "text,label\na,good\n"), "text-classification", labels=("LABEL_0",), is_number=True)


def test_the_labels_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("text,label\na,wrong\nb,right\nc,wrong\n", encoding="utf-8")
    (tmp_path / "tags.conll").write_text("Ada B-PER\nsleeps O\n\nin O\nRome B-LOC\n", encoding="utf-8")
    assert read_labels(tmp_path / "classes.csv", "text-classification") == ("right", "wrong")
    assert read_labels(tmp_path / "tags.conll", "token-classification") == ("O", "B-LOC", "B-PER")


def test_labels_that_are_numbers(write: Any) -> None:
    """Whole ones may be ids or names of classes."""
    for labels in (("1", "2"), ("1.0", "2.0"), ("0.5", "high")):
        path = write("a.csv", "text,label\n" + "".join(f"a,{label}\n" for label in labels))
        assert read_labels(path, "text-classification") == labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], r"a.csv holds no label, and a new head has two or more to tell apart. Give a file with examples of each"),
        (["good", "good"], r"a.csv holds one label, 'good', and a new head has two or more"),
        (["good", ""], r"a.csv, line 3: there is no label, got ''"),
        (["0.5", "1", "1.7"], r"a.csv are numbers \(0.5, 1, 1.7\), .* give a model with a head of one label, .*num_labels=1\) makes"),
    ],
)
def test_labels_that_make_no_head(write: Any, labels: list[str], message: str) -> None:
    path = write("a.csv", "text,label\n" + "".join(f"a,{label}\n" for label in labels))
    with pytest.raises(InputError, match=message):
        read_labels(path, "text-classification")
