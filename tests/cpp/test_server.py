"""The example server answers as the Python package does, refuses what is wrong, and ends without losing a request."""

import http.client
import json
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

import trtbert
from tests.machine import run
from tests.tiny_tokenizers import SENTENCES
from trtbert.tasks import Task

CHUNKED = b"HTTP/1.1\r\nTransfer-Encoding: chunked"
TOO_LARGE = (413, {"error": "the body is too large; it may have 4194304 bytes"})


@contextmanager
def _serving(runner: Path, package: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [runner / "cpp/examples/runner_server", package, "127.0.0.1", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.kill()


@pytest.fixture
def server(runner: Path, packages: dict[Task, Path]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with _serving(runner, packages["text-classification"]) as serving:
        yield serving


def _ask(
    port: int, method: str, path: str, body: bytes | None = None, *, content_type: str = "application/json", timeout: float = 60
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    connection.request(method, path, body, {"Content-Type": content_type})
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


def _send(port: int, head: bytes, pieces: Iterable[bytes] = ()) -> tuple[int, Any]:
    """The answer to bytes that no client would send; the server may close the connection before it has them all."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(head + b"\r\n\r\n")
            for piece in pieces:
                connection.sendall(piece)
        except OSError:
            pass
        return _answer(connection)


def _answer(connection: socket.socket) -> tuple[int, Any]:
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        return response.status, json.loads(response.read())


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _peak(process: subprocess.Popen[str]) -> int:
    """Bytes of memory that the process has had at most."""
    [line] = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_answers_and_refusals(server: tuple[subprocess.Popen[str], int], packages: dict[Task, Path]) -> None:
    _, port = server
    assert _ask(port, "GET", "/v2/health/ready") == (200, {"task": "text-classification"})
    status, answer = _ask(port, "POST", "/v1/predict", json.dumps({"inputs": SENTENCES}).encode())
    assert (status, answer["outputs"]) == (200, trtbert.load(packages["text-classification"], threads=1).predict(list(SENTENCES)))
    for body, message in ((b"{", "The request is no JSON"), (b"\xff", "The request is no JSON"), (b'{"inputs": [1]}', "request.inputs.0")):
        status, answer = _ask(port, "POST", "/v1/predict", body)
        assert status == 400 and message in answer["error"]
    assert _ask(port, "GET", "/etc/passwd") == (404, {"error": "no such page"})
    assert _ask(port, "POST", "/v1/predict", b" " * (5 << 20)) == TOO_LARGE


def test_no_body_fills_the_memory(server: tuple[subprocess.Popen[str], int]) -> None:
    process, port = server
    status, answer = _send(port, b"POST /v1/predict " + CHUNKED, map(_chunk, (b'{"inputs": ["one",', b' "two"]}', b"")))
    assert status == 200 and len(answer["outputs"]) == 2
    before, much = _peak(process), b" " * (1 << 20)
    assert _send(port, b"POST /v1/predict " + CHUNKED, [*repeat(_chunk(much), 64), _chunk(b"")]) == TOO_LARGE
    for page in (b"POST /v1/other ", b"PUT /v1/predict ", b"PRI * "):
        assert _send(port, page + CHUNKED, [*repeat(_chunk(much), 64), _chunk(b"")]) == (404, {"error": "no such page"})
    status, answer = _send(port, b"POST /v1/predict HTTP/1.0", repeat(much, 64))
    assert status == 411 and "the length of the body is missing" in answer["error"]
    assert _peak(process) - before < 24 << 20


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_any_content_type(content_type: str, server: tuple[subprocess.Popen[str], int]) -> None:
    body = json.dumps({"inputs": ["w " * 5000]}).encode()  # curl's own type has a limit of 8192 bytes in cpp-httplib.
    status, answer = _ask(server[1], "POST", "/v1/predict", body, content_type=content_type)
    assert status == 200 and len(answer["outputs"]) == 1


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (b"nonsense", (400, "this is no HTTP request that can be read, or its body broke off")),
        (b"POST /v1/predict " + CHUNKED + b"\r\n\r\nx", (400, "this is no HTTP request that can be read, or its body broke off")),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1", (414, "the address is too long")),
        (
            b"POST /v1/predict HTTP/1.1\r\nContent-Length: 0\r\nContent-Type: multipart/form-data; boundary=a",
            (415, "the body must be plain JSON, with no Content-Encoding and not as multipart/form-data"),
        ),
        (b"GET /v2/health/live HTTP/1.1\r\nRange: bytes=a", (416, "the Range header cannot be read; leave it out")),
    ],
    ids=["no request", "no chunk", "address", "multipart", "range"],
)
def test_errors_of_http(head: bytes, answer: tuple[int, str], server: tuple[subprocess.Popen[str], int]) -> None:
    assert _send(server[1], head) == (answer[0], {"error": answer[1]})


def test_what_follows_a_refused_body_is_no_request(server: tuple[subprocess.Popen[str], int]) -> None:
    with socket.create_connection(("127.0.0.1", server[1]), timeout=60) as connection:
        connection.sendall(b"POST /v1/other HTTP/1.1\r\nContent-Length: 40\r\n\r\n")
        assert _answer(connection)[0] == 404
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\n\r\n")
        assert connection.recv(1) == b""


def test_slow_clients_leave_others_their_answers(server: tuple[subprocess.Popen[str], int]) -> None:
    connections = [socket.create_connection(("127.0.0.1", server[1])) for _ in range(12)]
    for connection in connections:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nX")
    assert _ask(server[1], "GET", "/v2/health/live", timeout=5)[0] == 200
    for connection in connections:
        connection.close()


@pytest.mark.slow
def test_a_body_that_drips(server: tuple[subprocess.Popen[str], int]) -> None:
    with socket.create_connection(("127.0.0.1", server[1]), timeout=60) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        begin = time.monotonic()
        while not select.select([connection], [], [], 1)[0] and time.monotonic() - begin < 40:
            connection.sendall(b" ")
        assert time.monotonic() - begin < 40
        assert _answer(connection) == (408, {"error": "the body must come within 20 seconds"})


def test_too_many_words_to_fill_in(runner: Path, packages: dict[Task, Path]) -> None:
    with _serving(runner, packages["fill-mask"]) as (_, port):

        def fill(texts: list[str], top_k: int) -> tuple[int, Any]:
            return _ask(port, "POST", "/v1/predict", json.dumps({"inputs": texts, "options": {"top_k": top_k}}).encode())

        status, answer = fill(["[MASK] " * 100] * 8, 5)
        assert status == 200 and [len(masks) for masks in answer["outputs"]] == [100] * 8
        for texts, top_k, (num, left) in ((["[MASK] " * 100] * 9, 5, (4500, 4096)), (["[MASK]"] * 4100, 1, (4, 0))):
            status, answer = fill(texts, top_k)
            assert status == 400 and f"would hold {num} words, and of those that are allowed at once {left} are left." in answer["error"]


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
