"""Wrong bodies of full size cost milliseconds and no memory; right ones of that size are answered."""

import json
import time
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from pydantic import BaseModel
from starlette.requests import Request

from tests.serve.server import serving
from trtbert.serve.bodies import EmbeddingsRequest, InferRequest, PredictRequest, RerankRequest
from trtbert.serve.call import Call
from trtbert.serve.config import ServeConfig
from trtbert.serve.refusal import Refusal

SIZE, MAX_TEXTS = ServeConfig().max_body_bytes, ServeConfig().max_texts
SECONDS = 2.0
"""Of CPU for one wrong body. Measured: 0.1 at most; where every error is listed, 20 and more."""

PREDICT = b'{"model": "classifier", "inputs": [%s]}'
RERANK = b'{"model": "ranker", "query": "a", "documents": [%s]}'
EMBED = b'{"model": "embedder", "input": [%s]}'
TENSOR = b'{"name": "text", "datatype": "BYTES", "shape": [1], "data": [%s]}'
INFER = b'{"inputs": [%s]}' % TENSOR
PATHS: dict[type[BaseModel], str] = {
    PredictRequest: "/v1/predict",
    RerankRequest: "/v1/rerank",
    EmbeddingsRequest: "/v1/embeddings",
    InferRequest: "/v2/models/embedder/infer",
}


def full(frame: bytes, item: bytes, most: int = SIZE) -> bytes:
    """As many items as fit."""
    num = min(most, (SIZE - len(frame)) // (len(item) + 1))
    return frame % b",".join([item] * num)


FIELDS = b",".join(b'"%d":1' % number for number in range(90000))
WRONG: dict[str, tuple[type[BaseModel], bytes]] = {
    **{
        f"{kind.__name__} {item.decode()}": (kind, full(frame, item))
        for kind, frame in ((PredictRequest, PREDICT), (RerankRequest, RERANK), (EmbeddingsRequest, EMBED), (InferRequest, INFER))
        for item in (b"1", b"{}", b"[]")
    },
    **{
        f"{kind.__name__} few {item[:9].decode()}": (kind, frame % b",".join([item] * MAX_TEXTS))
        for kind, frame in ((PredictRequest, PREDICT), (RerankRequest, RERANK), (EmbeddingsRequest, EMBED), (InferRequest, INFER))
        for item in (b"1", b'{"a":[%s]}' % b",".join([b"1"] * 200))
    },
    "right pairs": (PredictRequest, full(PREDICT, b'{"text":"a"}')),
    "fields of a pair": (PredictRequest, PREDICT % (b"{%s}" % FIELDS)),
    "fields": (EmbeddingsRequest, b'{"model": "embedder", "input": "a", %s}' % FIELDS),
    "options": (PredictRequest, b'{"model": "classifier", "inputs": "a", "options": {%s}}' % FIELDS),
    "labels": (PredictRequest, full(b'{"model": "tagger", "inputs": "a", "options": {"ignore_labels": [%s]}}', b'"a"')),
    "shape": (InferRequest, full(b'{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [%s]}]}', b'"a"')),
    "inputs": (InferRequest, full(b'{"inputs": [%s]}', b"1")),
    "outputs": (InferRequest, full(b'{"outputs": [%%s], "inputs": [%s]}' % (TENSOR % b'"a"'), b"1")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_body_has_few_errors(name: str) -> None:
    kind, body = WRONG[name]
    call = Call(Request({"type": "http", "headers": []}), body, MAX_TEXTS)
    started = time.process_time()
    with pytest.raises(Refusal) as refused:
        call.parse(kind)
    assert time.process_time() - started < SECONDS
    assert refused.value.status in (400, 413) and 10 < len(refused.value.message) < 400
    assert refused.value.message.count("; ") < 4  # Five are shown.


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"text": 1}, "inputs.list.0.pair.text: Input should be a valid string"),
        ({"question": "a"}, "inputs.list.0.question.context: Field required"),
        ({"text": "a", "other": 1}, "inputs.list.0.pair: there is no field 'other'"),
        (["a"], "inputs.list.0.list: List should have at least 2 items"),
        (1, "inputs.list.0: must be a text, [text, text_pair]"),
    ],
)
def test_what_a_wrong_input_is_told(item: Any, message: str) -> None:
    body = json.dumps({"model": "classifier", "inputs": [item]}).encode()
    with pytest.raises(Refusal) as refused:
        Call(Request({"type": "http", "headers": []}), body, MAX_TEXTS).parse(PredictRequest)
    assert message in refused.value.message


def test_full_bodies(packages: dict[str, Path]) -> None:
    """A server goes on while it gets them, with no more memory; right ones of that size have their answers."""
    served = [packages[name] for name in ("classifier", "embedder", "ranker", "tagger")]
    with serving(*served) as server:
        worker = psutil.Process(server.process.pid).children()[0]
        before = worker.memory_info().rss
        for kind, body in WRONG.values():
            status, answer = server.ask(PATHS[kind], body)
            assert status in (400, 413) and answer["error"]
        assert worker.memory_info().rss < before + 2**28

        text = b'"%s"' % (b"a" * (SIZE // MAX_TEXTS - 20))  # A word as long as that is one token, which the model does not know.
        for kind, frame in ((PredictRequest, PREDICT), (RerankRequest, RERANK), (EmbeddingsRequest, EMBED)):
            status, answer = server.ask(PATHS[kind], full(frame, text, MAX_TEXTS))
            assert status == 200, answer
            assert len(answer.get("predictions") or answer.get("results") or answer["data"]) == MAX_TEXTS
        body = full(INFER, text, MAX_TEXTS).replace(b'"shape": [1]', b'"shape": [%d]' % MAX_TEXTS)
        status, answer = server.ask(PATHS[InferRequest], body)
        assert status == 200 and answer["outputs"][0]["shape"][0] == MAX_TEXTS

        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        for ids in ([101, 7592, 102], [[101, 7592, 102], [101, 102]]):
            with pytest.raises(openai.BadRequestError, match="token ids are not taken"):
                client.embeddings.create(model="embedder", input=ids)
