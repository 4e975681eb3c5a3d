"""Every value in the JSON of a package, made another: it is taken or refused with the place, and neither throws nor takes much memory."""

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cpp.driver import Driver
from trtbert.tasks import TASKS, Task

VALUES = (None, -1, 2**40, "x", [], {}, 1.5)
TOKENS = 1 << 22
"""Of the smallest batch of a profile that is taken, with the 600 of the driver's longest text for 4096 texts below it."""
KINDS = {
    "normalizers": {
        "type": "Sequence",
        "normalizers": [
            {"type": "NFKC"},
            {"type": "Strip", "strip_left": True, "strip_right": True},
            {"type": "Replace", "pattern": {"String": "a"}, "content": "b"},
            {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        ],
    },
    "truncation": {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0},
    "BertProcessing": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
    "RobertaProcessing": {
        "type": "RobertaProcessing",
        "sep": ["[SEP]", 3],
        "cls": ["[CLS]", 2],
        "trim_offsets": True,
        "add_prefix_space": True,
    },
}


@pytest.fixture
def package(packages: dict[Task, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(packages["text-classification"], tmp_path / "package"))


def _places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Of everything inside `value`, objects and lists too."""
    keys: Any = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*place, key)
        yield from _places(value[key], (*place, key))


def _changed(document: Any, place: tuple[str | int, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    return changed


def _mutations(document: Any) -> list[Any]:
    return [_changed(document, place, value) for place in _places(document) for value in VALUES]


def _tokenizers(package: Path) -> list[Any]:
    """One as it is, but for a vocabulary that is no longer than it must be, and others with parts of each kind."""
    whole = json.loads((package / "tokenizer.json").read_text())
    pieces = list(whole["model"]["vocab"])
    whole["model"]["vocab"] = {token: whole["model"]["vocab"][token] for token in ("[UNK]", "[CLS]", "[SEP]", *pieces[-3:])}
    whole["added_tokens"] = whole["added_tokens"][1:3]
    # A BertNormalizer by itself makes a table, which takes a while; what is read of it is the same.
    whole |= {"normalizer": KINDS["normalizers"], "truncation": KINDS["truncation"]}
    processors = [whole | {"post_processor": KINDS[name]} for name in ("BertProcessing", "RobertaProcessing")]
    return [
        *_mutations(whole),
        *(_changed(p, ("post_processor", *place), v) for p in processors for place in _places(p["post_processor"]) for v in VALUES),
    ]


def test_tokenizers(sanitized_driver: Driver, package: Path) -> None:
    file = package.parent / "tokenizer.json"
    lines = _tokenizers(package)
    answers = sanitized_driver("tokenizers", file, lines=lines)
    refused = [answer["error"] for answer in answers if isinstance(answer, dict)]
    assert len(answers) == len(lines) > 500 and 200 < len(refused) < len(lines)
    assert [message for message in refused if not message.startswith((str(file), "max_length must be", "The post-processor"))] == []


def test_manifests(sanitized_driver: Driver, package: Path) -> None:
    manifest = json.loads((package / "manifest.json").read_text())
    manifest["profiles"] = [{"batch_size": {"min": 1, "opt": 1, "max": 2}, "seq_len": {"min": 1, "opt": 8, "max": 700}}]
    manifest["plugins"] = {"name": "trtbert", "version": "1", "sha256": "0" * 64}
    lines = _mutations(manifest)
    answers = sanitized_driver("manifests", package, lines=lines)
    refused = [answer["error"] for answer in answers if isinstance(answer, dict)]
    assert len(answers) == len(lines) > 500 and 200 < len(refused) < len(lines)
    assert [message for message in refused if str(package) not in message] == []
    assert max(answer[0] for answer in answers if isinstance(answer, list)) < 10 * TOKENS


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"batch_size": {"min": 4096, "max": 2**40}}, None),
        ({"batch_size": {"min": 4097, "max": 2**40}}, "profiles.0.batch_size.min: it must be 4096 or less, got 4097."),
        ({"batch_size": {"min": 2**40, "max": 2**40}}, "profiles.0.batch_size.min: it must be 4096 or less, got 1099511627776."),
        ({"batch_size": {"min": 4096, "max": 4096}, "seq_len": {"min": 1024, "max": 1024}}, None),
        (
            {"batch_size": {"min": 64, "max": 64}, "seq_len": {"min": 65537, "max": 2**40}},
            "seq_len.min: it must be 65536 or less, got 65537.",
        ),
        ({"batch_size": {"min": 1, "max": 1}, "seq_len": {"min": 2**40, "max": 2**40}}, "seq_len.min: it must be 4194304 or less"),
    ],
)
def test_the_smallest_batch_of_a_profile_is_bounded(profile: Any, message: str | None, sanitized_driver: Driver, package: Path) -> None:
    manifest = json.loads((package / "manifest.json").read_text()) | {"profiles": [profile]}
    (answer,) = sanitized_driver("manifests", package, lines=[manifest])
    assert isinstance(answer, list) if message is None else message in answer["error"]


def _nested(key: str, inside: Any, depth: int) -> str:
    return f'{{"type": "Sequence", "{key}": [' * depth + json.dumps(inside) + "]}" * depth


@pytest.mark.parametrize(
    ("part", "key"),
    [("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers"), ("post_processor", "processors"), ("decoder", "decoders")],
)
@pytest.mark.parametrize("depth", [15, 16, 200_000])
def test_parts_nested_in_parts(part: str, key: str, depth: int, sanitized_driver: Driver, package: Path) -> None:
    whole = json.loads((package / "tokenizer.json").read_text())
    inside = whole[part] if part == "normalizer" else {"type": "none"}
    text = json.dumps(whole | {part: "HERE"}).replace('"HERE"', _nested(key, inside, depth))
    done = sanitized_driver.run("tokenizers", package / "nested.json", text=text.encode() + b"\n")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if depth > 15:
        assert "nested.json cannot be read as JSON: it is nested deeper than 32 levels" in answer["error"]
    elif part == "normalizer":
        assert isinstance(answer, str)
    else:
        assert "Sequence is not supported here" in answer["error"]


@pytest.mark.parametrize("text", ['{"a":' * 200_000, '{"format_version": 1, "model": {"task": ' + "[" * 200_000 + "]" * 200_000 + "}}"])
def test_a_deep_manifest(text: str, sanitized_driver: Driver, package: Path) -> None:
    answer = json.loads(sanitized_driver.run("manifests", package, text=text.encode() + b"\n").stdout)
    assert "manifest.json cannot be read as JSON: it is nested deeper than 32 levels" in answer["error"]


def test_a_direction_that_is_none(sanitized_driver: Driver, package: Path) -> None:
    whole = json.loads((package / "tokenizer.json").read_text())
    lines = [whole | {"truncation": {"direction": direction}} for direction in (5, "Up")]
    number, word = sanitized_driver("tokenizers", package / "t.json", lines=lines)
    assert "t.json: truncation.direction: it must be a string, got 5." in number["error"]
    assert "t.json: truncation.direction: it must be Left or Right, got Up." in word["error"]


def test_a_task_that_is_none(sanitized_driver: Driver, package: Path) -> None:
    manifest = json.loads((package / "manifest.json").read_text())
    for task in TASKS:
        manifest["model"]["task"] = task
        assert isinstance(sanitized_driver("manifests", package, lines=[manifest])[0], list)
    manifest["model"]["task"] = "nonsense"
    (answer,) = sanitized_driver("manifests", package, lines=[manifest])
    assert f'model.task: it must be one of {", ".join(TASKS)}, got "nonsense".' in answer["error"]


@pytest.mark.parametrize("length", [300, 5000])
def test_names_that_are_too_long_for_the_system(length: int, sanitized_driver: Driver, package: Path) -> None:
    (answer,) = sanitized_driver("predict", package / ("x" * length))
    assert "there is no such folder" in answer["error"]
    manifest = json.loads((package / "manifest.json").read_text())
    manifest["files"]["x" * length] = "0" * 64
    (answer,) = sanitized_driver("manifests", package, lines=[manifest])
    assert f'is incomplete: the file "{"x" * length}" is missing.' in answer["error"]
