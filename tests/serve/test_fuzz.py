"""What two fuzzers send: requests made from the OpenAPI description, and ten thousand bodies that nothing describes."""

import copy
import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.serve.server import Server

NUM_BODIES = 10_000
GOOD: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"model": "embedder", "input": ["red", "a blue cat"], "encoding_format": "float", "dimensions": 48},
    "/v1/rerank": {"model": "ranker", "query": "red", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": True},
    "/v1/predict": {"model": "classifier", "inputs": [{"text": "red", "text_pair": "blue"}], "options": {"top_k": 2}},
    "/v2/models/embedder/infer": {
        "id": "1",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"], "parameters": {}}],
        "outputs": [{"name": "sentence_embedding", "parameters": {"binary_data": False}}],
    },
}
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        2**63,
        10**400,
        0.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "\0",
        "\ud800",
        "\U0010ffff",
        "é" * 300,
        "a " * 5000,
    ),
    *([], [None], ["x"] * 101, [[["deep"]]], {}, {"a": {}}, {"": ""}, {"__class__": "x"}, {"model": "embedder"}),
)


@pytest.mark.slow
def test_requests_made_from_the_description(server: Server, tmp_path: Path) -> None:
    """schemathesis breaks each part of a right request in turn, and draws others; what a model takes depends on its task, which the
    description cannot say: that all requests of its shape are taken is not asked."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--no-color"]
    checks = ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    drawn = ["--seed", "0", "--max-examples", "25", "--suppress-health-check", "all"]
    done = subprocess.run([*command, *checks, *drawn], capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None and int(generated[1]) > 500, done.stdout[-3000:]


@pytest.mark.slow
def test_bodies_that_nothing_describes(server: Server) -> None:
    """Each is answered, none by an error of the server but overload; afterwards it has no more memory, threads or files than before."""
    generator, found = random.Random(0), Counter[int]()
    worker = psutil.Process(server.process.pid).children()[0]
    for index in range(NUM_BODIES):
        if index == NUM_BODIES // 2:
            before = worker.memory_info().rss, worker.num_threads(), worker.num_fds()
        path = generator.choice(list(GOOD))
        response = server.http.request("POST", server.url + path, body=body(GOOD[path], generator))
        found[response.status] += 1
        assert response.status < 500 or response.status == 503, (path, response.data)
        assert response.status == 200 or json.loads(response.data)["error"]
    assert found[200] > 100 and found[400] > NUM_BODIES / 2 and set(found) <= {200, 400, 404, 413, 503}, found
    after = worker.memory_info().rss, worker.num_threads(), worker.num_fds()
    assert after[0] < before[0] + 2**24 and after[1] <= before[1] and after[2] <= before[2] + 2, (before, after)


def body(good: dict[str, Any], generator: random.Random) -> bytes:
    """A right body with one or two of its values replaced, left out or doubled; or with its bytes damaged."""
    value = json.loads(json.dumps(good))
    for _ in range(generator.randint(1, 2)):
        spoil(value, generator)
    data = json.dumps(value).encode()
    way = generator.randrange(8)
    if way == 0:
        place = generator.randrange(len(data))
        data = data[:place] + generator.randbytes(generator.randint(1, 4)) + data[place + 1 :]
    elif way == 1:
        data = data[: generator.randrange(len(data))]
    elif way == 2:
        data = generator.choice((b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 2000, b'{"a":' * 2000, b"\0")) + data
    return data


def spoil(value: dict[str, Any], generator: random.Random) -> None:
    """Somewhere in the tree."""
    place: Any = value
    while True:
        key = generator.choice(list(place) if isinstance(place, dict) else range(len(place))) if place else None
        if key is None:
            return
        if isinstance(place[key], dict | list) and place[key] and generator.random() < 0.7:
            place = place[key]
            continue
        if generator.random() < 0.2:
            del place[key]
        elif isinstance(place, dict) and generator.random() < 0.1:
            place[generator.choice(("extra", "", "Model", "\0"))] = copy.deepcopy(place[key])
        else:
            place[key] = copy.deepcopy(generator.choice(ODD))
        return
