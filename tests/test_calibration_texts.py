"""Files of texts, and the texts that come with trtbert, as calibration reads them: drawn, checked, tokenized, in batches."""

import json
import random
import tracemalloc
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest
from tokenizers import Encoding

from tests.tiny_tokenizers import SENTENCES, make_tokenizer
from trtbert.calibration_texts import CalibrationTexts, read_calibration_texts
from trtbert.errors import InputError
from trtbert.package import ModelFacts, TensorFacts, TokenizerFacts
from trtbert.tasks import TASKS, Task

WORDS = " ".join(SENTENCES).split()
GREEK = [f"Το τρένο για την πόλη φεύγει στις {hour} από την αποβάθρα" for hour in range(40)]
REGISTERS = {
    *("chat", "code", "encyclopedic", "finance", "legal", "medical", "names", "narrative"),
    *("news", "numbers", "product", "question", "review", "social", "support", "technical"),
}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """tokenizer.json of WordPiece, Unigram and BPE of bytes."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for family in ("bert", "albert", "roberta"):
        (folder / family).mkdir()
        make_tokenizer(folder / family, family, max_length=512)
    return {family: folder / family / "tokenizer.json" for family in ("bert", "albert", "roberta")}


@pytest.fixture
def tokenizer(tokenizers: dict[str, Path]) -> Path:
    return tokenizers["bert"]


def facts(task: Task = "feature-extraction", max_length: int = 512) -> ModelFacts:
    inputs = [TensorFacts(name=name, dtype="int32", shape=("batch", "sequence")) for name in ("input_ids", "attention_mask")]
    known = TokenizerFacts(pad_token_id=0, vocab_size=320)
    return ModelFacts(
        architecture="bert", task=task, max_length=max_length, num_layers=2, tokenizer=known, inputs=tuple(inputs), outputs=()
    )


def read(
    path: Path | None, tokenizer: Path, *, task: Task = "feature-extraction", max_length: int = 512, size: int = 512
) -> CalibrationTexts:
    return read_calibration_texts(path, tokenizer, facts(task, max_length), column=None, size=size)


def write(folder: Path, lines: list[str], name: str = "texts.txt") -> Path:
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return folder / name


def sentences(num: int, *, length: int = 9) -> list[str]:
    """Different texts of so many words."""
    rng = random.Random(0)
    return [" ".join([*rng.choices(WORDS, k=length - 1), str(index)]) for index in range(num)]


def pairs(folder: Path, num: int, singles: int = 0) -> Path:
    rows = [{"text": text, "text_pair": other} for text, other in zip(sentences(num), sentences(num, length=5), strict=True)]
    return write(folder, [json.dumps(row) for row in [*rows, *({"text": text} for text in sentences(singles, length=7))]], "pairs.jsonl")


def everything(texts: CalibrationTexts) -> list[Encoding]:
    return [*texts.encodings, *texts.held_back]


def ids(encodings: list[Encoding] | tuple[Encoding, ...]) -> list[tuple[int, ...]]:
    return [tuple(encoding.ids) for encoding in encodings]


def num_pairs(texts: CalibrationTexts) -> int:
    return sum(encoding.n_sequences == 2 for encoding in everything(texts))


def test_the_texts_that_come_with_trtbert() -> None:
    lines = resources.files("trtbert").joinpath("calibration_data/texts.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) >= 600
    assert len({row["text"] for row in rows}) == len(rows)
    registers = Counter(row["register"] for row in rows)
    assert registers.keys() == REGISTERS and min(registers.values()) >= 30
    assert all(text.strip() for row in rows for key, text in row.items() if key != "register")
    assert sum("text_pair" in row for row in rows) >= 40


def test_the_texts_that_come_with_trtbert_are_taken_whole(tokenizer: Path) -> None:
    texts = read(None, tokenizer, task="text-classification", size=1000)
    assert texts.source == "built-in"
    assert len(everything(texts)) == 720 and len(set(ids(everything(texts)))) > 700
    assert num_pairs(texts) == 48
    assert "--calibration-data with texts like those the model will see is better" in texts.notes[0]
    assert len(everything(read(None, tokenizer, task="text-classification"))) == 512


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("long"), [f"the order number is {' '.join(str(index))}" for index in range(200_000)])


def test_of_a_long_file_the_same_texts_are_drawn_each_time(tokenizer: Path, long_file: Path) -> None:
    first, second = read(long_file, tokenizer), read(long_file, tokenizer)
    assert len(everything(first)) == len(set(ids(everything(first)))) == 512
    assert ids(first.encodings) == ids(second.encodings) and ids(first.held_back) == ids(second.held_back)
    assert first.sha256 == second.sha256 != read(long_file, tokenizer, size=500).sha256
    assert first.notes == (f"calibrated and checked on 512 texts drawn from the 200000 of {long_file}; --calibration-size draws more",)


def test_every_part_of_a_long_file_is_drawn_from(tokenizer: Path, tmp_path: Path) -> None:
    """About 51 of each tenth, with a standard deviation of 7."""
    drawn = everything(read(write(tmp_path, [f"{'a ' * (index // 2000)}{index}" for index in range(20_000)]), tokenizer))
    counts = Counter(encoding.tokens.count("a") for encoding in drawn)
    assert sorted(counts) == list(range(10)) and counts.total() == 512
    assert all(25 < count < 80 for count in counts.values())


def test_a_long_file_takes_no_more_memory_than_what_is_drawn(tokenizer: Path, long_file: Path) -> None:
    tracemalloc.start()
    try:
        texts = read(long_file, tokenizer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(everything(texts)) == 512
    assert peak < 2e6 < long_file.stat().st_size, "the file would fit in 16 MB of strings"


@pytest.mark.parametrize(("num", "words"), [(1, "1 different text,"), (15, "15 different texts,")])
def test_too_few_different_texts_are_refused(num: int, words: str, tokenizer: Path, tmp_path: Path) -> None:
    path = write(tmp_path, sentences(num) * 9)
    with pytest.raises(InputError) as caught:
        read(path, tokenizer)
    message = str(caught.value)
    assert message.startswith(f"{path} holds {words}") and "at least 16" in message and "leave --calibration-data out" in message


def test_a_text_counts_once(tokenizer: Path, tmp_path: Path) -> None:
    texts = read(write(tmp_path, sentences(20) * 5), tokenizer)
    assert len(everything(texts)) == len(set(ids(everything(texts)))) == 20


def test_a_file_that_is_read_whole_is_not_said_to_be_drawn_from(tokenizer: Path, tmp_path: Path) -> None:
    texts = read(write(tmp_path, sentences(150) * 2), tokenizer)
    assert len(everything(texts)) == 150
    assert texts.notes == ()


def test_few_texts_are_noted(tokenizer: Path, tmp_path: Path) -> None:
    assert read(write(tmp_path, sentences(99)), tokenizer).notes == ("calibrated on 99 texts only; some hundreds are better",)
    assert read(write(tmp_path, sentences(100)), tokenizer).notes == ()


def test_long_texts_are_cut_and_counted(tokenizer: Path, tmp_path: Path) -> None:
    texts = read(write(tmp_path, [*sentences(100, length=3), *sentences(7, length=90)]), tokenizer, max_length=60)
    assert [len(encoding) for encoding in everything(texts)].count(60) == 7
    assert max(map(len, everything(texts))) == 60
    assert texts.notes == ("7 of 107 calibration texts are longer than 60 tokens and were cut",)


@pytest.mark.parametrize(
    "family",
    [
        "bert",
        "albert",
    ],
)
def test_a_script_that_the_tokenizer_does_not_know_is_refused(family: str, tokenizers: dict[str, Path], tmp_path: Path) -> None:
    path = write(tmp_path, GREEK)
    with pytest.raises(InputError, match=r"does not know \d+% of the words in .*another language or script") as caught:
        read(path, tokenizers[family])
    share = int(str(caught.value).split("%")[0].split()[-1])
    assert 70 < share <= 100, "numbers are known"


def test_a_tokenizer_of_bytes_knows_every_script(tokenizers: dict[str, Path], tmp_path: Path) -> None:
    assert len(everything(read(write(tmp_path, GREEK), tokenizers["roberta"]))) == 40


def test_some_unknown_words_are_noted(tokenizer: Path, tmp_path: Path) -> None:
    texts = read(write(tmp_path, [f"{text} привет" for text in sentences(120, length=2)]), tokenizer)
    assert len(everything(texts)) == 120
    (note,) = texts.notes
    assert "does not know" in note and note.endswith("are they in the model's language?")


def test_words_cut_into_letters_are_noted(tokenizer: Path, tmp_path: Path) -> None:
    """Known letters that make no words: as another language in the same script, or a script with its letters in the vocabulary."""
    rng = random.Random(0)
    path = write(tmp_path, [" ".join("".join(rng.choices("aeinorst", k=12)) for _ in range(5)) for _ in range(120)])
    (note,) = read(path, tokenizer).notes
    assert "pieces on average" in note and str(path) in note


def test_words_of_pairs_are_not_said_to_be_cut(tokenizers: dict[str, Path], tmp_path: Path) -> None:
    lines = [json.dumps([text, other]) for text, other in zip(sentences(120, length=8), sentences(120, length=8)[::-1], strict=True)]
    texts = read(write(tmp_path, lines, "pairs.jsonl"), tokenizers["bert"], task="text-ranking")
    assert num_pairs(texts) == 120
    assert not any("pieces on average" in note for note in texts.notes)


@pytest.mark.parametrize("task", TASKS)
def test_pairs_are_read_as_the_task_reads_them(task: Task, tokenizer: Path, tmp_path: Path) -> None:
    texts = read(pairs(tmp_path, 20), tokenizer, task=task)
    are_kept = task in ("question-answering", "text-ranking", "text-classification")
    assert (len(everything(texts)), num_pairs(texts)) == ((20, 20) if are_kept else (40, 0))


@pytest.mark.parametrize("task", TASKS)
def test_single_texts_are_made_pairs_where_the_task_reads_pairs(task: Task, tokenizer: Path, tmp_path: Path) -> None:
    texts = read(write(tmp_path, sentences(30)), tokenizer, task=task)
    are_made = task in ("question-answering", "text-ranking")
    assert (len(everything(texts)), num_pairs(texts)) == ((30, 30) if are_made else (30, 0))


def test_a_classifier_reads_pairs_and_single_texts(tokenizer: Path, tmp_path: Path) -> None:
    texts = read(pairs(tmp_path, 20, singles=10), tokenizer, task="text-classification")
    assert (len(everything(texts)), num_pairs(texts)) == (30, 20)


@pytest.mark.parametrize(("num", "num_held_back"), [(16, 4), (32, 4), (40, 5), (400, 50), (800, 64)])
def test_one_text_of_eight_is_held_back(num: int, num_held_back: int, tokenizer: Path, tmp_path: Path) -> None:
    texts = read(write(tmp_path, sentences(num)), tokenizer, size=num)
    assert (len(texts.held_back), len(texts.encodings)) == (num_held_back, num - num_held_back)
    assert not set(ids(texts.held_back)) & set(ids(texts.encodings))


def test_batches_hold_every_text_once_in_at_most_512_padded_tokens(tokenizer: Path, tmp_path: Path) -> None:
    lines = [*sentences(300, length=4), *sentences(100, length=25), *sentences(3, length=400)]
    texts = read(write(tmp_path, lines), tokenizer, max_length=2000)
    batches = list(texts.batches())
    assert len(batches) > 10 and max(batch["input_ids"].shape[1] for batch in batches) == 512
    assert all(batch["input_ids"].size <= 512 for batch in [*batches, *texts.held_back_batches()])
    rows = [tuple(row[mask != 0]) for batch in batches for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    assert sorted(rows) == sorted(ids(texts.encodings))
    assert [batch["input_ids"].tolist() for batch in texts.batches()] == [batch["input_ids"].tolist() for batch in batches], "a second pass"
