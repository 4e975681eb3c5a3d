"""Overload, timeouts, reload, a killed worker and the drain: no request is lost, and the server recovers."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import urllib3

from tests.models import make_checkpoint
from tests.numerics import relative_error
from tests.predictor.packages import make_package
from tests.serve.server import Server, serving
from tests.tiny_tokenizers import SENTENCES
from trtbert.predictor import load

BODY = {"model": "embedder", "input": [SENTENCES[0], SENTENCES[1]]}


@contextmanager
def load_on(server: Server, num_clients: int = 8) -> Iterator[list[Any]]:
    """Clients that ask again and again, each on a connection of its own; what they got, an exception where the connection broke."""
    results: list[Any] = []
    stop = threading.Event()

    def client() -> None:
        pool = urllib3.PoolManager(retries=False, timeout=30)
        while not stop.is_set():
            started = time.monotonic()
            try:
                response = pool.request("POST", f"{server.url}/v1/embeddings", json=BODY)
                results.append((started, response.status, response.json()))
            except urllib3.exceptions.HTTPError as error:
                results.append(error)
                return

    threads = [threading.Thread(target=client) for _ in range(num_clients)]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def wait_until(is_so: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_overload_is_shed_and_passes(packages: dict[str, Path]) -> None:
    body = {"model": "embedder", "input": ["red " * 120] * 20}
    with serving(packages["embedder"], queue_tokens=10000, max_tokens=8000) as server:

        def ask(_: int) -> tuple[int, Any]:
            response = server.http.request("POST", f"{server.url}/v1/embeddings", json=body)
            return response.status, response.headers.get("Retry-After")

        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(ask, range(200)))
        statuses = Counter(status for status, _ in answers)
        assert set(statuses) == {200, 429} and min(statuses.values()) > 5
        assert all(int(after) >= 1 for status, after in answers if status == 429)
        assert ask(0)[0] == 200


def test_too_many_requests_and_no_answer_in_time(packages: dict[str, Path]) -> None:
    body = {"model": "embedder", "input": ["red " * 120] * 200}
    with serving(packages["embedder"], max_requests=4, timeout=0.05) as server:

        def ask(number: int) -> tuple[int, str]:
            if number % 8 == 7:  # Health is told all the same.
                return server.ask("/v2/health/ready")[0], ""
            response = server.http.request("POST", f"{server.url}/v1/embeddings", json=body)
            return response.status, response.json()["error"]["message"] if response.status == 503 else ""

        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(ask, range(48)))
        assert {status for status, _ in found[7::8]} == {200}
        answers = set(found)
        assert (503, "The server has too many open requests; ask again later.") in answers
        assert (503, "There was no answer within 0.05 seconds; ask again later.") in answers
        wait_until(lambda: server.ask("/v1/embeddings", {"model": "embedder", "input": "red"})[0] == 200)


def test_a_client_that_goes_away_frees_the_queue(packages: dict[str, Path]) -> None:
    body = {"model": "embedder", "input": ["red " * 120] * 250}
    with serving(packages["embedder"]) as server:
        for _ in range(8):
            with pytest.raises(urllib3.exceptions.TimeoutError):
                server.http.request("POST", f"{server.url}/v1/embeddings", json=body, timeout=0.03)
        wait_until(lambda: len([r for r in server.log if r.get("status") == 499]) == 8)
        assert server.ask("/v1/embeddings", {"model": "embedder", "input": "red"})[0] == 200
        text = server.http.request("GET", f"{server.url}/metrics").data.decode()
        num_texts = float(next(line for line in text.splitlines() if line.startswith("trtbert_texts_total")).split()[1])
        assert num_texts < 8 * 250  # The rest never ran.


def test_reload_under_load_loses_nothing(packages: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "embedder"
    shutil.copytree(packages["embedder"], folder)
    checkpoint = make_checkpoint(tmp_path / "checkpoint", "bert", task="sentence-similarity", seed=1)
    other = make_package(tmp_path / "other", checkpoint, "sentence-similarity")
    old, new = (load(path).encode(BODY["input"]) for path in (folder, other))
    with serving(folder, workers=2) as server, load_on(server) as results:
        wait_until(lambda: len(results) > 50)
        shutil.rmtree(folder)
        shutil.copytree(other, folder)
        server.send(signal.SIGHUP)
        server.wait_for("reloaded", 2)
        reloaded, num = time.monotonic(), len(results)
        wait_until(lambda: len(results) > num + 100)
        (folder / "model.onnx").write_bytes(b"broken")
        server.send(signal.SIGHUP)
        server.wait_for("reload failed", 2)
        num_failed = len(results)
        wait_until(lambda: len(results) > num_failed + 50)
    assert {status for _, status, _ in results} == {200}
    vectors = [np.array([data["embedding"] for data in answer["data"]], np.float32) for _, _, answer in results]
    kinds = ["old" if relative_error(v, old) < 2e-5 else "new" if relative_error(v, new) < 2e-5 else "wrong" for v in vectors]
    assert set(kinds) == {"old", "new"}
    later = [kind for kind, (started, _, _) in zip(kinds, results, strict=True) if started > reloaded]
    assert len(later) > 100 and set(later) == {"new"}  # A broken package changes nothing.


def test_a_killed_worker_is_replaced(packages: dict[str, Path]) -> None:
    with serving(packages["embedder"], workers=2) as server:
        victim = psutil.Process(server.process.pid).children()[0]
        victim.kill()
        server.wait_for("worker died")
        for _ in range(20):
            assert server.ask("/v1/embeddings", BODY)[0] == 200  # The other one answers meanwhile.
        server.wait_for("ready", 3)
        assert len(psutil.Process(server.process.pid).children()) == 2


def test_a_new_worker_serves_what_the_others_serve(packages: dict[str, Path], tmp_path: Path) -> None:
    """A worker dies while the folder is gone, then another package: none starts with that before SIGHUP, and tries get rarer."""
    folder = tmp_path / "embedder"
    shutil.copytree(packages["embedder"], folder)
    checkpoint = make_checkpoint(tmp_path / "checkpoint", "bert", task="sentence-similarity", seed=1)
    other = make_package(tmp_path / "other", checkpoint, "sentence-similarity")
    old, new = (load(path).encode(BODY["input"]) for path in (folder, other))

    def answers() -> list[str]:
        """What 20 clients get, each on a connection of its own."""
        found = []
        for _ in range(20):
            server.http.clear()
            status, answer = server.ask("/v1/embeddings", BODY)
            assert status == 200
            vectors = np.array([data["embedding"] for data in answer["data"]], np.float32)
            found += [name for name, expected in (("old", old), ("new", new)) if relative_error(vectors, expected) < 2e-5]
        return found

    with serving(folder, workers=2) as server:
        shutil.rmtree(folder)
        psutil.Process(server.process.pid).children()[0].kill()
        assert "no such folder" in server.wait_for("cannot start")["reason"]
        times = [datetime.fromisoformat(server.wait_for("cannot start", number)["time"]) for number in (1, 2, 3)]
        assert (times[2] - times[1]).total_seconds() > 2.5  # 2, then 4 seconds.
        shutil.copytree(other, tmp_path / "embedder-new").rename(folder)
        assert "Send SIGHUP" in server.wait_for("cannot start", 4)["reason"]
        assert answers() == ["old"] * 20
        server.send(signal.SIGHUP)
        server.wait_for("ready", 3)
        assert len(psutil.Process(server.process.pid).children()) == 2
        assert answers() == ["new"] * 20


def test_the_only_worker_comes_back(packages: dict[str, Path], tmp_path: Path) -> None:
    """With what is there: nobody else answers. Without a package the server waits for one, and stops when it is told to."""
    folder = tmp_path / "embedder"
    shutil.copytree(packages["embedder"], folder)
    with serving(folder) as server:
        folder.rename(tmp_path / "away")
        psutil.Process(server.process.pid).children()[0].kill()
        server.wait_for("cannot start")
        (tmp_path / "away").rename(folder)
        server.wait_for("ready", 2)
        assert server.ask("/v1/embeddings", BODY)[0] == 200
        shutil.rmtree(folder)
        psutil.Process(server.process.pid).children()[0].kill()
        server.wait_for("cannot start", 2)  # `serving` stops it, without a worker.


def test_workers_do_not_outlive_their_supervisor(packages: dict[str, Path]) -> None:
    with pytest.raises(AssertionError), serving(packages["embedder"]) as server:
        workers = psutil.Process(server.process.pid).children()
        server.process.kill()
        assert psutil.wait_procs(workers, timeout=10)[1] == []


def test_sigterm_under_load_loses_nothing(packages: dict[str, Path]) -> None:
    with serving(packages["embedder"], workers=2) as server, load_on(server) as results:
        wait_until(lambda: len(results) > 100)
        server.send(signal.SIGTERM)
        assert server.process.wait(20) == 0
    done = [result for result in results if isinstance(result, tuple)]
    broken = [result for result in results if not isinstance(result, tuple)]
    assert {status for _, status, _ in done} == {200}
    # Each client was told that its connection closes, and found nobody on the next one: no request was cut off.
    assert len(broken) == 8 and all(isinstance(error, urllib3.exceptions.NewConnectionError) for error in broken), broken


def test_without_its_extra(packages: dict[str, Path]) -> None:
    code = "import sys; sys.modules['starlette'] = None; from trtbert.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "serve", str(packages["embedder"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 5 and "pip install 'trtbert[serve]'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "env", "code", "message"),
    [
        (["{package}", "{package}"], {}, 2, "would both be served"),
        (["{folder}/nothing"], {}, 2, "there is no such folder"),
        (["{package}"], {"TRTBERT_SERVE_PORT": "many"}, 2, "TRTBERT_SERVE_PORT"),
        (["{package}", "--tls-cert", "cert.pem"], {}, 2, "--tls-key"),
        (["{package}", "--tls-cert", "{folder}/cert.pem", "--tls-key", "{folder}/key.pem"], {}, 2, "--tls-cert, "),
        (["{package}"], {"TRTBERT_SERVE_API_KEYS": "short"}, 2, "at least 16 characters"),
        (["{package}", "--api-key-file", "{folder}/keys"], {}, 2, "cannot be read"),
        (["{package}", "--max-tokens", "100000"], {}, 2, "--queue-tokens"),
        (["{package}", "--host", "203.0.113.1"], {}, 2, "Cannot listen"),
        (["{altered}"], {}, 2, "was altered"),
    ],
)
def test_what_cannot_start(
    packages: dict[str, Path], tmp_path: Path, arguments: list[str], env: dict[str, str], code: int, message: str
) -> None:
    altered = shutil.copytree(packages["classifier"], tmp_path / "altered")
    (altered / "model.onnx").write_bytes(b"broken")
    names = {"package": packages["embedder"], "folder": tmp_path, "altered": altered}
    command = [sys.executable, "-m", "trtbert", "serve", *(argument.format(**names) for argument in arguments)]
    port = {"TRTBERT_SERVE_PORT": "0"} | env
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | port)
    assert done.returncode == code, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert "listening" not in done.stderr or "altered" in arguments[0]  # Only the workers check the hashes.
