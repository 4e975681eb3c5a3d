"""Every API gives the offline predictor's answers, to official clients as well."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openai
import pytest
import tritonclient.http as triton

from tests.numerics import assert_close
from tests.serve.server import Server
from tests.tiny_tokenizers import SENTENCES
from trtbert.predictor import Predictor

TEXTS = [" ".join(SENTENCES[: n % 5 + 1])[n:] for n in range(40)] + ["", "é ü 漢 🙂"]
PAIRS = [(text, SENTENCES[n % 3]) for n, text in enumerate(TEXTS[:10])]


def close(actual: Any, expected: Any) -> bool:
    """Equal but for numbers, which batches of another shape may change in the last bits."""
    if isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(close(actual[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(actual) == len(expected) and all(map(close, actual, expected))
    return actual == pytest.approx(expected, rel=1e-4, abs=1e-6) if isinstance(expected, float) else bool(actual == expected)


def test_openai_client(server: Server, predictors: dict[str, Predictor]) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    expected = predictors["embedder"].encode(TEXTS)
    answer = client.embeddings.create(model="embedder", input=TEXTS, encoding_format="float")
    assert_close(np.array([data.embedding for data in answer.data], np.float32), expected)
    assert [data.index for data in answer.data] == list(range(len(TEXTS)))
    default = client.embeddings.create(model="embedder", input=TEXTS[3])  # Which the client asks for as base64.
    assert_close(np.array(default.data[0].embedding, np.float32), expected[3])
    assert default.usage.prompt_tokens == len(predictors["embedder"].encoder.tokenize([TEXTS[3]])[0])
    assert [model.id for model in client.models.list()] == list(predictors)
    with pytest.raises(openai.NotFoundError, match="There is no model 'gpt'"):
        client.embeddings.create(model="gpt", input="a")
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model="embedder", input="a", dimensions=7)
    client.close()


def test_rerank(server: Server, predictors: dict[str, Predictor]) -> None:
    documents = [second for _, second in PAIRS] + TEXTS[:5]
    scores = predictors["ranker"].predict([(SENTENCES[0], document) for document in documents])
    body = {"model": "ranker", "query": SENTENCES[0], "documents": documents, "top_n": 4, "return_documents": True}
    status, answer = server.ask("/v1/rerank", body)
    assert status == 200 and len(answer["results"]) == 4
    for result in answer["results"]:
        assert result["relevance_score"] == pytest.approx(float(scores[result["index"]]), rel=1e-4)
        assert result["document"] == {"text": documents[result["index"]]}
    shown = [result["relevance_score"] for result in answer["results"]]
    assert shown == sorted(shown, reverse=True) and shown[0] == pytest.approx(float(scores.max()), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "inputs", "options"),
    [
        ("classifier", TEXTS, {}),
        ("classifier", TEXTS, {"top_k": None}),
        ("classifier", PAIRS, {"top_k": 2}),
        ("tagger", TEXTS, {}),
        ("tagger", TEXTS, {"aggregation_strategy": "average", "ignore_labels": []}),
        ("ranker", PAIRS, {}),
        ("reader", [{"question": q, "context": c * 10} for q, c in PAIRS if c and len(q) < 80], {"top_k": 2}),
        ("filler", [f"{SENTENCES[0]} [MASK]", "[MASK] [MASK]"], {"top_k": 3}),
        ("embedder", TEXTS, {}),
    ],
)
def test_predict(server: Server, predictors: dict[str, Predictor], name: str, inputs: list[Any], options: dict[str, Any]) -> None:
    status, answer = server.ask("/v1/predict", {"model": name, "inputs": inputs, "options": options})
    assert status == 200, answer
    expected = predictors[name].predict(inputs, **options)
    assert len(answer["predictions"]) == len(inputs)
    assert close(answer["predictions"], expected.tolist() if hasattr(expected, "tolist") else expected)


@pytest.mark.parametrize("is_binary", [True, False])
def test_triton_client(server: Server, predictors: dict[str, Predictor], is_binary: bool) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("embedder")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("embedder", "1")
    given = triton.InferInput(metadata["inputs"][0]["name"], [len(TEXTS), 1], "BYTES")
    given.set_data_from_numpy(np.array(TEXTS, np.object_)[:, None], binary_data=is_binary)
    asked = [triton.InferRequestedOutput("sentence_embedding", binary_data=is_binary)]
    for outputs in (asked, None):
        result = client.infer("embedder", [given], outputs=outputs, request_id="7")
        assert_close(result.as_numpy("sentence_embedding"), predictors["embedder"].encode(TEXTS))
        assert result.get_response()["id"] == "7"
    with pytest.raises(triton.InferenceServerException, match="There is no model"):
        client.infer("nothing", [given])
    client.close()


def test_inference_outputs_of_other_tasks(server: Server, predictors: dict[str, Predictor]) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")

    def infer(name: str, **columns: list[str]) -> Any:
        inputs = []
        for key, texts in columns.items():
            inputs.append(triton.InferInput(key, [len(texts)], "BYTES"))
            inputs[-1].set_data_from_numpy(np.array(texts, np.object_))
        return client.infer(name, inputs)

    labels = infer("classifier", text=TEXTS)
    expected = predictors["classifier"].predict(TEXTS)
    assert [label.decode() for label in labels.as_numpy("label")] == [answer["label"] for answer in expected]
    assert_close(labels.as_numpy("score"), np.array([answer["score"] for answer in expected], np.float32))
    scores = infer("ranker", text=[a for a, _ in PAIRS], text_pair=[b for _, b in PAIRS])
    assert_close(scores.as_numpy("scores"), predictors["ranker"].predict(PAIRS))
    tagged = [json.loads(answer) for answer in infer("tagger", text=TEXTS).as_numpy("answer")]
    assert close(tagged, predictors["tagger"].predict(TEXTS))
    client.close()


def test_curl(server: Server, predictors: dict[str, Predictor]) -> None:
    body = json.dumps({"model": "embedder", "input": TEXTS[1]})
    done = subprocess.run(["curl", "-sS", f"{server.url}/v1/embeddings", "-d", body], capture_output=True, text=True, check=True)
    vector = np.array(json.loads(done.stdout)["data"][0]["embedding"], np.float32)
    assert_close(vector, predictors["embedder"].encode(TEXTS[1]))


def test_many_clients_get_their_own_answers(server: Server, predictors: dict[str, Predictor]) -> None:
    expected = predictors["embedder"].encode(TEXTS)

    def ask(number: int) -> None:
        chosen = [number % len(TEXTS), number * 7 % len(TEXTS)]
        status, answer = server.ask("/v1/embeddings", {"model": "embedder", "input": [TEXTS[index] for index in chosen]})
        assert status == 200
        assert_close(np.array([data["embedding"] for data in answer["data"]], np.float32), expected[chosen])

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(ask, range(400)))
    text = server.http.request("GET", f"{server.url}/metrics").data.decode()
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("trtbert_"))
    num_texts, num_batches = (float(numbers[f'trtbert_{name}_total{{model="embedder"}}']) for name in ("texts", "batches"))
    assert num_texts > 1.2 * num_batches  # Requests of several clients did run together.
    assert float(numbers["trtbert_queue_tokens"]) == 0
