"""A real Triton server starts from the repository as it is and answers its own clients as the offline predictor does.

Triton's scheduler, dynamic batcher, Python backend and calls between models are the real ones, of release 2.51; the engines' backends are
not in it, and a Python model of the same config runs each engine's own file.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.machine import BUILD, ROOT, locked, run
from tests.numerics import assert_close
from tests.serve.test_answers import close
from tests.triton.running import make_bare
from tests.triton.server import serving, with_engines_in_python
from tests.triton.test_answers import CONTEXTS, PAIRS, TEXTS
from trtbert.predictor import Predictor

SERVED = ("classifier", "embedder", "reader", "tagger")


@pytest.fixture(scope="module")
def client(repository: Path, bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton.InferenceServerClient]:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the server of the tests is set up for Python 3.11")
    with locked("triton-server"):
        fetched = run(ROOT / "tests" / "triton" / "fetch-server", BUILD / "triton-server")
    assert "DO NOT MATCH THE HASHES" not in fetched.stderr, fetched.stderr
    if fetched.returncode != 0:
        pytest.skip("Triton's server cannot be fetched: the package index cannot be reached")
    started = run(BUILD / "triton-server" / "bin" / "tritonserver", "--help")
    if "GLIBC" in started.stderr:
        pytest.skip(f"Triton's server needs a newer C library: {started.stderr}")
    copy = with_engines_in_python(repository, tmp_path_factory.mktemp("server") / "repository")
    for folder in copy.iterdir():
        if folder.name.removesuffix("_engine") not in SERVED:
            folder.rename(copy.parent / folder.name)
    with serving(BUILD / "triton-server", copy, make_bare(bare)) as running:
        yield running


def infer(client: triton.InferenceServerClient, name: str, **columns: list[str]) -> Any:
    inputs = []
    for key, texts in columns.items():
        inputs.append(triton.InferInput(key, [len(texts), 1], "BYTES"))
        inputs[-1].set_data_from_numpy(np.array([text.encode("utf-8", "surrogateescape") for text in texts], np.object_)[:, None])
    return client.infer(name, inputs)


def test_it_starts_from_the_repository_as_it_is(client: triton.InferenceServerClient) -> None:
    assert client.get_server_metadata()["version"] == "2.51.0"
    listed = {model["name"]: model["state"] for model in client.get_model_repository_index()}
    assert listed == {name + suffix: "READY" for name in SERVED for suffix in ("", "_engine")}
    config = client.get_model_config("embedder")
    assert config["max_batch_size"] == 256 and config["dynamic_batching"]["preferred_batch_size"] == [8, 64]
    assert config["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == 1024


def test_answers(client: triton.InferenceServerClient, predictors: dict[str, Predictor]) -> None:
    vectors = infer(client, "embedder", text=TEXTS).as_numpy("sentence_embedding")
    assert vectors.dtype == np.float32
    assert_close(vectors, predictors["embedder"].encode(TEXTS))
    for columns, texts in (({"text": TEXTS}, TEXTS), ({"text": [a for a, _ in PAIRS], "text_pair": [b for _, b in PAIRS]}, PAIRS)):
        labels, expected = infer(client, "classifier", **columns), predictors["classifier"].predict(texts)
        assert [label.decode() for label in labels.as_numpy("label")[:, 0]] == [answer["label"] for answer in expected]
        assert_close(labels.as_numpy("score")[:, 0], np.array([answer["score"] for answer in expected], np.float32))
    answers = infer(client, "reader", question=[q for q, _ in CONTEXTS], context=[c for _, c in CONTEXTS]).as_numpy("answer")
    assert close([json.loads(text) for text in answers[:, 0]], predictors["reader"].predict(CONTEXTS))
    answers = infer(client, "tagger", text=TEXTS).as_numpy("answer")
    assert close([json.loads(text) for text in answers[:, 0]], predictors["tagger"].predict(TEXTS))


def test_many_clients_run_in_few_batches(client: triton.InferenceServerClient, predictors: dict[str, Predictor]) -> None:
    expected = predictors["embedder"].encode(TEXTS)
    before = client.get_inference_statistics("embedder")["model_stats"][0]

    def ask(numbers: range) -> None:
        own = triton.InferenceServerClient(client._parsed_url.netloc)  # A client is of one thread.
        for number in numbers:
            chosen = [number % len(TEXTS), number * 7 % len(TEXTS)][: number % 2 + 1]
            answered = infer(own, "embedder", text=[TEXTS[index] for index in chosen])
            assert_close(answered.as_numpy("sentence_embedding"), expected[chosen])
        own.close()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, [range(first, first + 25) for first in range(0, 400, 25)]))
    after = client.get_inference_statistics("embedder")["model_stats"][0]
    texts, calls = (after[name] - before[name] for name in ("inference_count", "execution_count"))
    assert texts == 600 and texts > 2 * calls


def test_what_is_refused(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="text: text 0 is not UTF-8"):
        infer(client, "embedder", text=["\udcff"])
    with pytest.raises(InferenceServerException, match="batch size does not match other inputs"):
        infer(client, "classifier", text=["a", "b"], text_pair=["c"])
    with pytest.raises(InferenceServerException, match="batch-size must be <= 256"):
        infer(client, "embedder", text=["a"] * 257)
    with pytest.raises(InferenceServerException, match="expected 1 inputs but got 2"):
        infer(client, "embedder", text=["a"], context=["b"])
    assert client.is_model_ready("embedder")
