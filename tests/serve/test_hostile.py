"""What a client can send: every wrong request has a 4xx with a message, and the server goes on."""

import json
import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.serve.server import Server, serving

GOOD = {"model": "embedder", "input": "red"}
TENSOR = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["red"]}
HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"


def post(body: Any, headers: bytes = b"") -> bytes:
    """A request for embeddings; `body` is JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n%s" % (headers, len(data), data)


def raw(server: Server, data: bytes, *, late: Sequence[bytes] = (), half_close: bool = False, seconds: float = 6) -> bytes:
    """What comes back on a connection of its own until the server closes it; TimeoutError when it does not."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        connection.sendall(data)
        for part in late:
            time.sleep(0.2)
            connection.sendall(part)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


def statuses(answers: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.1 (\d+) ", answers)


def assert_alive(server: Server) -> None:
    status, answer = server.ask("/v1/embeddings", GOOD)
    assert status == 200 and len(answer["data"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b'{"model": "embedder", "input": "\xff"}',
        rb'{"model": "embedder", "input": "\ud800"}',
        b'{"model": "embedder", "input": NaN}',
        b'{"model": "embedder", "input": 1e999}',
        b'{"model": "embedder", "input": ' + b"9" * 5000 + b"}",
        b"[" * 50000,
        b'{"a":' * 10000,
        b'{"model": "embedder", "input": ' + b"[" * 20000 + b"]" * 20000 + b"}",
        b'{"model": "embedder"}',
        b'{"model": "embedder", "input": [1, 2]}',
        b'{"model": "embedder", "input": null}',
        b'{"model": "embedder", "input": {"a": "b"}}',
        b'{"model": 5, "input": "a"}',
        b'{"model": "embedder", "input": []}',
        b'{"model": "embedder", "input": "a", "extra": 1}',
        b'{"model": "embedder", "input": "a", "dimensions": "x"}',
        b'{"model": "embedder", "input": "a", "encoding_format": "pickle"}',
        b'{"model": "classifier", "input": "a"}',
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_wrong_bodies(server: Server, body: bytes) -> None:
    status, answer = server.ask("/v1/embeddings", body)
    assert status == 400
    assert answer["error"]["message"] and answer["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("classifier", {"top_k": 0}),
        ("classifier", {"top_k": 1e30}),
        ("classifier", {"aggregation_strategy": "first"}),
        ("tagger", {"ignore_labels": 5}),
        ("tagger", {"aggregation_strategy": ["first"]}),
        ("filler", {"top_k": None}),
        ("filler", {}),
        ("reader", {}),
    ],
)
def test_wrong_options_and_texts(server: Server, name: str, options: dict[str, Any]) -> None:
    status, answer = server.ask("/v1/predict", {"model": name, "inputs": ["no mask, no context"], "options": options})
    assert status == 400 and answer["error"]["message"]


@pytest.mark.parametrize(
    ("change", "binary", "header"),
    [
        ({"datatype": "FP32"}, b"", None),
        ({"shape": [2]}, b"", None),
        ({"shape": [1, 2]}, b"", None),
        ({"shape": [-1]}, b"", None),
        ({"shape": []}, b"", None),
        ({"data": None}, b"", None),
        ({"data": [["a", "b"]]}, b"", None),
        ({"name": "other"}, b"", None),
        ({"data": None, "parameters": {"binary_data_size": 5}}, b"\x01\x00\x00\x00a", "99999"),
        ({"data": None, "parameters": {"binary_data_size": 5}}, b"\x01\x00\x00\x00a", "-1"),
        ({"data": None, "parameters": {"binary_data_size": 6}}, b"\x01\x00\x00\x00a", "json"),
        ({"data": None, "parameters": {"binary_data_size": True}}, b"\x01", "json"),
        ({"data": None, "parameters": {"binary_data_size": 5}}, b"\xff\xff\xff\xffa", "json"),
        ({"data": None, "parameters": {"binary_data_size": 3}}, b"\x01\x00\x00", "json"),
        ({"data": None, "parameters": {"binary_data_size": 5}}, b"\x01\x00\x00\x00\xff", "json"),
        ({"data": None, "parameters": {"binary_data_size": 5}}, b"\x01\x00\x00\x00amore", "json"),
    ],
)
def test_wrong_tensors(server: Server, change: dict[str, Any], binary: bytes, header: str | None) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["red"]} | change
    body = json.dumps({"inputs": [{key: value for key, value in tensor.items() if value is not None}]}).encode()
    headers = {} if header is None else {"Inference-Header-Content-Length": str(len(body)) if header == "json" else header}
    status, answer = server.ask("/v2/models/embedder/infer", body + binary, **headers)
    assert status == 400 and isinstance(answer["error"], str)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": [TENSOR, TENSOR | {"data": ["blue"]}]}, "two inputs 'text'"),
        ({"inputs": [TENSOR | {"data": None, "parameters": {"shared_memory_region": "r"}}]}, "shared memory is not taken"),
        ({"outputs": [{"name": "sentence_embedding", "parameters": {"classification": 2}}]}, "'classification'; leave it out"),
        (
            {"outputs": [{"name": "sentence_embedding", "parameters": {"shared_memory_region": "r"}}]},
            "'shared_memory_region'; leave it out",
        ),
    ],
)
def test_what_infer_does_not_take(server: Server, change: dict[str, Any], message: str) -> None:
    status, answer = server.ask("/v2/models/embedder/infer", {"inputs": [TENSOR]} | change)
    assert status == 400 and message in answer["error"]


def test_an_output_that_there_is_not(server: Server) -> None:
    inputs = [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["red"]}]
    assert server.ask("/v2/models/embedder/infer", {"inputs": inputs, "outputs": [{"name": "logits"}]})[0] == 400


def test_too_much(server: Server) -> None:
    for text, what in (("a" * 70000, "bytes"), (["a"] * 101, "texts"), (["red " * 120] * 60, "tokens")):
        status, answer = server.ask("/v1/embeddings", {"model": "embedder", "input": text})
        assert status == 413 and what in answer["error"]["message"]
    context = " ".join(["red"] * 3000)
    question = {"question": "blue " * 500, "context": context}  # Leaves room for one new token a window.
    status, answer = server.ask("/v1/predict", {"model": "reader", "inputs": [question]})
    assert status == 400 and "of those that are allowed at once" in answer["error"]["message"]
    masks = {"model": "filler", "inputs": ["[MASK] " * 100] * 10, "options": {"top_k": 1000}}
    assert server.ask("/v1/predict", masks)[0] == 413
    assert server.ask("/v1/embeddings", b"\x1f\x8b", **{"Content-Encoding": "gzip"})[0] == 415
    assert_alive(server)


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v2/models/..%2f..%2fetc/infer",
        "/v1/embeddings/",
        "/v2/models/nothing",
        "/static/x",
    ],
)
def test_paths_that_lead_nowhere(server: Server, path: str) -> None:
    answer = raw(server, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404") and b"root:" not in answer


def test_a_method_that_is_not_allowed(server: Server) -> None:
    answer = raw(server, b"DELETE /v1/embeddings HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405") and b"allow: post" in answer.lower()


def test_no_header_is_injected(server: Server) -> None:
    answer = raw(server, b"GET /v2/models/a%0d%0aX-Evil:%201 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    head, _, _ = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404") and b"x-evil" not in head.lower()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"CONNECT host:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT /v2 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 40000,
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 8000,
    ],
    ids=lambda data: data[:30].decode("latin-1"),
)
def test_broken_http(server: Server, data: bytes) -> None:
    assert raw(server, data).startswith(b"HTTP/1.1 400")
    assert_alive(server)


def test_slow_and_half_closed_clients_are_let_go(server: Server) -> None:
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n"
    start = time.monotonic()
    for data, half_close in ((b"", False), (b"GET / HT", False), (head, False), (head + b'{"model', False), (head + b"{", True)):
        assert raw(server, data, half_close=half_close) == b""  # After a second: client_timeout.
    assert time.monotonic() - start < 20
    whole = json.dumps(GOOD).encode()
    raw(server, head.replace(b"50", str(len(whole)).encode()) + whole, half_close=True)
    for _ in range(50):
        socket.create_connection(("127.0.0.1", server.port)).close()
    assert_alive(server)


@pytest.mark.parametrize("rest", [b"GET /v2/hea", b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{"])
def test_a_request_that_does_not_end_after_one_that_did(server: Server, rest: bytes) -> None:
    answer = raw(server, HEALTH + rest)  # Closed after client_timeout, not after the 75 seconds of an idle connection.
    assert answer.startswith(b"HTTP/1.1 200") and answer.count(b"HTTP/1.1") == 1


def test_a_request_that_waits_for_the_one_before_it_is_not_late(packages: dict[str, Path]) -> None:
    """The server reads no further while it answers: no fault of the client's."""
    with serving(packages["embedder"], client_timeout=1, max_tokens=10**6, queue_tokens=10**6, timeout=120) as server:
        slow = post({"model": "embedder", "input": ["red " * 100] * 1000})  # Takes seconds.
        last = post(GOOD, b"Connection: close\r\n")
        assert statuses(raw(server, slow, late=[last[:-5], last[-5:]], seconds=60)) == [b"200", b"200"]


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


@pytest.mark.parametrize("num_apart", [0, 5, 1000])
def test_an_upgrade_is_ignored(server: Server, num_apart: int) -> None:
    """The request is answered, its body is never another request, and the connection goes on."""
    smuggled = b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n"
    data = post(GOOD, UPGRADE) + post(smuggled, UPGRADE) + post({"model": "embedder", "input": "red"}, b"Connection: close\r\n")
    place = len(data) - num_apart if num_apart < 1000 else data.index(b"\r\n\r\n") + 4  # 1000: between the first head and its body.
    answers = raw(server, data[:place], late=[data[place:]])
    assert statuses(answers) == [b"200", b"400", b"200"] and b'"name":"trtbert"' not in answers
    body = json.dumps(GOOD).encode()
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + UPGRADE
    answers = raw(server, head + b"\r\n" + chunked + HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert answers.count(b"HTTP/1.1 200") == 2
    assert not [record for record in server.log if "uvicorn" in str(record).lower()]


@pytest.mark.parametrize("trailer", [b"X-T: 1\r\n" * 4000, b"a" * 32000], ids=["lines", "line"])
def test_trailers_that_never_end(server: Server, trailer: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=6) as connection:
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: ")
        with pytest.raises(OSError, match=r"reset|pipe"):
            for _ in range(500):
                connection.sendall(trailer)
    assert_alive(server)


def test_nothing_stays_behind(server: Server) -> None:
    """After all of that: no open request, no waiting token, no connection but ours; and no answer was a 5xx."""
    server.http.clear()
    worker = psutil.Process(server.process.pid).children()[0]
    end = time.monotonic() + 5
    while len(worker.net_connections("tcp")) > 1 and time.monotonic() < end:
        time.sleep(0.05)
    assert [connection.status for connection in worker.net_connections("tcp")] == ["LISTEN"]
    lines = server.http.request("GET", f"{server.url}/metrics").data.decode().splitlines()
    assert "trtbert_queue_tokens 0" in lines and "trtbert_requests_open 1" in lines
    assert not [line for line in lines if 'status="5' in line]


def test_an_upload_that_never_ends(packages: dict[str, Path]) -> None:
    with serving(packages["embedder"], max_body_bytes=2000, client_timeout=1) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=6) as connection:
            connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.settimeout(6)
            with pytest.raises(OSError, match=r"reset|pipe"):
                while True:
                    connection.sendall(b"400\r\n" + b"a" * 1024 + b"\r\n")
                    time.sleep(0.01)
        assert_alive(server)
        assert next(record["status"] for record in server.log if record["event"] == "request") == 413
