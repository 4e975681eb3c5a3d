"""The application of Ray Serve, really started here: all of the server's APIs, with the offline predictor's answers."""

import json
import logging
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import urllib3
from ray import serve

from tests.embed.conftest import Packages
from tests.numerics import assert_close
from trtbert.errors import ConfigError
from trtbert.predictor import load
from trtbert.serve.ray_app import app

pytestmark = pytest.mark.slow

KEY = "a-key-of-this-test"
TEXTS = [" ".join(f"w{(i * 7 + k) % 40}" for k in range(1 + i * 5 % 23)) for i in range(64)]


class Client:
    def __init__(self, port: int) -> None:
        self._http, self._url = urllib3.PoolManager(maxsize=16, retries=False, timeout=60), f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: Any = None, key: str | None = KEY) -> tuple[int, Any]:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        data = None if body is None else json.dumps(body).encode()
        response = self._http.request("GET" if body is None else "POST", self._url + path, body=data, headers=headers)
        return response.status, json.loads(response.data)


@pytest.fixture(scope="module")
def client(package: Packages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder, keys = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY + "\n")
    for name, task in (("embedder", "sentence-similarity"), ("classifier", "text-classification")):
        (folder / name).symlink_to(package(task))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {"TRTBERT_SERVE_THREADS": "1", "TRTBERT_SERVE_MAX_TEXTS": "64", "TRTBERT_SERVE_API_KEY_FILE": str(keys)}
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": environment},
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(app({"packages": f"{folder / 'embedder'},{folder / 'classifier'}", "max_replicas": "2"}))
        yield Client(port)
    finally:
        serve.shutdown()
        ray.shutdown()


def test_answers_of_many_clients(client: Client, package: Packages) -> None:
    def embed(start: int) -> list[list[float]]:
        status, found = client.ask("/v1/embeddings", {"model": "embedder", "input": TEXTS[start : start + 4]})
        assert status == 200
        return [item["embedding"] for item in found["data"]]

    with ThreadPoolExecutor(16) as pool:
        vectors = np.concatenate(list(pool.map(embed, range(0, 64, 4))))
    assert_close(vectors.astype(np.float32), load(package("sentence-similarity")).encode(TEXTS))
    status, found = client.ask("/v1/predict", {"model": "classifier", "inputs": TEXTS})
    expected = load(package("text-classification")).predict(TEXTS)
    assert status == 200 and [answer["label"] for answer in found["predictions"]] == [answer["label"] for answer in expected]


def test_limits_keys_and_errors(client: Client) -> None:
    assert client.ask("/v2/health/ready", key=None) == (200, {"ready": True})
    assert client.ask("/v1/models", key=None)[0] == 401
    assert [model["id"] for model in client.ask("/v1/models")[1]["data"]] == ["embedder", "classifier"]
    assert client.ask("/v1/embeddings", {"model": "embedder", "input": 3})[0] == 400
    assert client.ask("/v1/embeddings", {"model": "embedder", "input": ["w1"] * 65})[0] == 413
    assert client.ask("/nowhere")[0] == 404
    status, found = client.ask(
        "/v2/models/embedder/infer", {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["w1"]}]}
    )
    assert status == 200 and found["outputs"][0]["name"] == "sentence_embedding"


def test_arguments(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got no packages"):
        app({})
    with pytest.raises(ConfigError, match=r"got \['replicas'\]"):
        app({"packages": str(tmp_path), "replicas": 2})
