"""The example server answers as the Python package does, refuses what is wrong, and ends without losing a request."""

import http.client
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import trtbert
from tests.machine import run
from tests.tiny_tokenizers import SENTENCES
from trtbert.tasks import Task


@pytest.fixture
def server(runner: Path, packages: dict[Task, Path]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [runner / "cpp/examples/runner_server", packages["text-classification"], "127.0.0.1", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline().rpartition(":")[2])
        process.kill()


def _ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body)
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


def test_answers_and_refusals(server: tuple[subprocess.Popen[str], int], packages: dict[Task, Path]) -> None:
    _, port = server
    assert _ask(port, "GET", "/v2/health/ready") == (200, {"task": "text-classification"})
    status, answer = _ask(port, "POST", "/v1/predict", json.dumps({"inputs": SENTENCES}).encode())
    assert (status, answer["outputs"]) == (200, trtbert.load(packages["text-classification"], threads=1).predict(list(SENTENCES)))
    for body, message in ((b"{", "The request is no JSON"), (b"\xff", "The request is no JSON"), (b'{"inputs": [1]}', "request.inputs.0")):
        status, answer = _ask(port, "POST", "/v1/predict", body)
        assert status == 400 and message in answer["error"]
    assert _ask(port, "GET", "/etc/passwd") == (404, {"error": "no such page"})
    assert _ask(port, "POST", "/v1/predict", b" " * (5 << 20))[0] == 413


@pytest.mark.parametrize("port", ["99999", "65536", "-1", "80x", "", "http", "9" * 30])
def test_a_port_that_is_none(port: str, runner: Path, tmp_path: Path) -> None:
    """Said before the package is looked at."""
    done = run(runner / "cpp/examples/runner_server", tmp_path, "127.0.0.1", port)
    assert (done.returncode, done.stderr) == (2, f"the port must be a number of 0 to 65535, got {port}\n")


def test_a_signal_ends_it_once_requests_are_answered(server: tuple[subprocess.Popen[str], int]) -> None:
    process, port = server
    body = json.dumps({"inputs": list(SENTENCES) * 100}).encode()
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(3)]
    for connection in connections:
        connection.request("POST", "/v1/predict", body)
    assert _ask(port, "GET", "/v2/health/live")[0] == 200  # It came last, so the others have come in.
    process.send_signal(signal.SIGTERM)
    answers = [json.loads(connection.getresponse().read()) for connection in connections]
    assert [len(answer["outputs"]) for answer in answers] == [len(SENTENCES) * 100] * 3
    assert process.wait(timeout=30) == 0
    for connection in connections:
        connection.close()
