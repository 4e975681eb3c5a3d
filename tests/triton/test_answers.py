"""The models of a repository answer as the offline predictor does, in a Python that has numpy and nothing else of ours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.numerics import assert_close
from tests.predictor.packages import make_manifest
from tests.serve.test_answers import close
from tests.tiny_tokenizers import SENTENCES
from tests.triton.conftest import PROFILES
from tests.triton.running import answer
from trtbert.cli import main
from trtbert.config import CompileConfig
from trtbert.package import write_package
from trtbert.pipeline import compile
from trtbert.predictor import Predictor, load

TEXTS = [" ".join(SENTENCES[: n % 5 + 1])[n:] for n in range(30)] + ["", "é ü 漢 🙂"]
PAIRS = [(text, SENTENCES[n % 3]) for n, text in enumerate(TEXTS[:8])]
CONTEXTS = [(question[:40], context * 10) for question, context in PAIRS if question and context]
FORBIDDEN = {"pydantic", "pydantic_core", "starlette", "torch", "transformers", "huggingface_hub"}


def columns(first: str, second: str, pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {first: [a for a, _ in pairs], second: [b for _, b in pairs]}


def values(replies: dict[str, Any], name: str) -> list[Any]:
    """The output of all requests together, each checked to be [n, size] as Triton wants it."""
    result = []
    for reply in replies["answers"]:
        assert list(reply[name]["shape"]) == [reply[name]["shape"][0], len(reply[name]["data"]) // reply[name]["shape"][0]]
        result += reply[name]["data"]
    return result


def test_embeddings_of_several_requests(repository: Path, predictors: dict[str, Predictor], bare: Path) -> None:
    replies = answer(repository, "embedder", [{"text": TEXTS[:1]}, {"text": TEXTS[1:20]}, {"text": TEXTS[20:]}], bare=bare)
    assert [reply["sentence_embedding"]["shape"][0] for reply in replies["answers"]] == [1, 19, len(TEXTS) - 20]
    assert replies["answers"][0]["sentence_embedding"]["dtype"] == "float32"
    vectors = np.array(values(replies, "sentence_embedding"), np.float32).reshape(len(TEXTS), -1)
    assert_close(vectors, predictors["embedder"].encode(TEXTS))
    assert sum(rows for rows, _ in replies["shapes"]) == len(TEXTS)  # They ran together, sorted by length.
    assert [length for _, length in replies["shapes"]] == sorted({length for _, length in replies["shapes"]}, reverse=True)
    assert {"tokenizers", "trtbert", "numpy"} <= set(replies["modules"]) and not FORBIDDEN & set(replies["modules"])


def test_labels(repository: Path, predictors: dict[str, Predictor], bare: Path) -> None:
    replies = answer(repository, "classifier", [{"text": TEXTS}, columns("text", "text_pair", PAIRS)], bare=bare)
    expected = predictors["classifier"].predict([*TEXTS, *PAIRS])
    assert values(replies, "label") == [one["label"] for one in expected]
    assert_close(np.array(values(replies, "score")), np.array([one["score"] for one in expected]))
    assert [reply["label"]["shape"] for reply in replies["answers"]] == [[len(TEXTS), 1], [len(PAIRS), 1]]


def test_scores_of_pairs(repository: Path, predictors: dict[str, Predictor], bare: Path) -> None:
    replies = answer(repository, "ranker", [columns("text", "text_pair", PAIRS)], bare=bare)
    assert_close(np.array(values(replies, "scores")), predictors["ranker"].predict(PAIRS))


@pytest.mark.parametrize(
    ("name", "requests", "texts"),
    [
        ("tagger", [{"text": TEXTS[:3]}, {"text": TEXTS[3:]}], TEXTS),
        ("reader", [columns("question", "context", CONTEXTS)], CONTEXTS),
        ("filler", [{"text": [f"{SENTENCES[0]} [MASK]", "[MASK] [MASK]"]}], [f"{SENTENCES[0]} [MASK]", "[MASK] [MASK]"]),
        ("features", [{"text": TEXTS[:4]}], TEXTS[:4]),
    ],
)
def test_answers_as_json(
    name: str, requests: list[Any], texts: list[Any], repository: Path, predictors: dict[str, Predictor], bare: Path
) -> None:
    replies = answer(repository, name, requests, bare=bare)
    expected = [one.tolist() if hasattr(one, "tolist") else one for one in predictors[name].predict(texts)]
    assert close([json.loads(text) for text in values(replies, "answer")], expected)


def test_a_wrong_text_is_the_error_of_its_own_request(repository: Path, predictors: dict[str, Predictor], bare: Path) -> None:
    replies = answer(repository, "filler", [{"text": ["no place"]}, {"text": ["\udcff"]}, {"text": ["a [MASK]"]}], bare=bare)
    no_mask, no_text, answered = replies["answers"]
    assert "'no place' has no [MASK]" in no_mask["error"] and no_text["error"] == "text: text 0 is not UTF-8."
    assert close([json.loads(answered["answer"]["data"][0])], predictors["filler"].predict(["a [MASK]"]))


def test_what_would_take_too_much(repository: Path, bare: Path) -> None:
    context = {"question": ["who " * 60], "context": [SENTENCES[0] * 2000]}
    [reply] = answer(repository, "reader", [context], bare=bare)["answers"]
    assert "of those that are allowed at once" in reply["error"]


def test_too_many_words_to_fill_in(repository: Path, predictors: dict[str, Predictor], bare: Path) -> None:
    texts = ["[MASK] " * 100] * 9
    replies = answer(repository, "filler", [{"text": texts}, {"text": texts[:8]}, {"text": ["a [MASK]"]}], bare=bare)
    refused, most, other = replies["answers"]
    assert refused["error"] == "The answer would hold 4500 words, more than 4096; send fewer texts at once."
    assert [len(json.loads(text)) for text in most["answer"]["data"]] == [100] * 8
    assert close([json.loads(other["answer"]["data"][0])], predictors["filler"].predict(["a [MASK]"]))


def test_too_many_numbers(repository: Path, bare: Path) -> None:
    [reply] = answer(repository, "features", [{"text": ["a " * 200] * 1000}], bare=bare)["answers"]
    assert "numbers, more than 2097152; send fewer texts at once." in reply["error"]


@pytest.fixture(scope="module")
def plan(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package for TensorRT in all but its plan, which is the ONNX model: no engine can be built without its GPU."""
    folder = tmp_path_factory.mktemp("plan") / "plan"
    folder.mkdir()
    manifest = load(packages["embedder"]).manifest
    for name, content in (("model.plan", (packages["embedder"] / "model.onnx").read_bytes()), ("libtrtbert_plugins.so", b"library")):
        (folder / name).write_bytes(content)
    (folder / "tokenizer.json").write_bytes((packages["embedder"] / "tokenizer.json").read_bytes())
    facts = {"target": "sm86", "runtime": "tensorrt", "precision": "fp16", "engine": "model.plan", "profiles": PROFILES}
    library = {"name": "libtrtbert_plugins.so", "version": "0.1.0", "sha256": "0" * 64}
    write_package(folder, make_manifest(manifest.model, versions={"tensorrt": "10.14.1.48"}, plugins=library, **facts))
    return folder


def test_batches_fit_the_profiles_of_an_engine(plan: Path, predictors: dict[str, Predictor], tmp_path: Path, bare: Path) -> None:
    assert main(["triton", str(plan), "-o", str(tmp_path / "repository")]) == 0
    ranges = [[(p.batch_size.min, p.batch_size.max), (p.seq_len.min, p.seq_len.max)] for p in PROFILES if p.seq_len]
    replies = answer(tmp_path / "repository", "plan", [{"text": TEXTS}], bare=bare, profiles=ranges)
    assert max(length for _, length in replies["shapes"]) == 64  # The longest profile; a longer text is cut.
    vectors = np.array(values(replies, "sentence_embedding"), np.float32).reshape(len(TEXTS), -1)
    short = [n for n, encoding in enumerate(predictors["embedder"].encoder.tokenize(TEXTS)) if len(encoding) <= 64]
    assert len(short) > 10
    assert_close(vectors[short], predictors["embedder"].encode(TEXTS)[short])
    alone = answer(tmp_path / "repository", "plan", [{"text": TEXTS[2:3]}], bare=bare, profiles=ranges)
    assert alone["shapes"][0][0] == 2 and alone["answers"][0]["sentence_embedding"]["shape"][0] == 1  # Filled up to the smallest batch.


def test_an_engine_that_fails(plan: Path, tmp_path: Path, bare: Path) -> None:
    assert main(["triton", str(plan), "-o", str(tmp_path / "repository")]) == 0
    replies = answer(tmp_path / "repository", "plan", [{"text": TEXTS}], bare=bare, profiles=[[(1, 1), (1, 1)]])
    assert replies["answers"][0]["failure"].startswith("plan_engine: AssertionError: no profile for ")


def test_openvino(tmp_path: Path, bare: Path) -> None:
    from tests.sources import make_source

    model, tokenizer = make_source(tmp_path)
    package = compile(model, tmp_path / "package", CompileConfig(tokenizer=tokenizer, runtime="openvino")).path
    assert main(["triton", str(package), "-o", str(tmp_path / "repository")]) == 0
    texts = ["w1 w2", "w3", "w4 w5 w6 w7"]
    expected = load(package, threads=1).predict(texts)
    replies = answer(tmp_path / "repository", "package", [{"text": texts[:2]}, {"text": texts[2:]}], bare=bare)
    assert values(replies, "label") == [one["label"] for one in expected]
    assert_close(np.array(values(replies, "score")), np.array([one["score"] for one in expected]))
