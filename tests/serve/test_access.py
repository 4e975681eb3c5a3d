"""Keys, TLS, pages, metrics and logs: who reads what."""

import base64
import json
import re
import ssl
import subprocess
from pathlib import Path

import pytest
import urllib3

from tests.serve.server import Server, serving
from trtbert.errors import ConfigError
from trtbert.serve.config import ServeConfig, read_config
from trtbert.serve.endpoints import ENDPOINTS
from trtbert.serve.keys import Keys, read_keys
from trtbert.serve.metrics import Metrics
from trtbert.serve.supervisor import name_packages
from trtbert.serve.tls import tls_context

KEY, OTHER = "0123456789abcdef-one", "0123456789abcdef-two"
SECRET = "a very private text"


@pytest.fixture(scope="module")
def guarded(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Server:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"{KEY}\n\n")
    with serving(packages["embedder"], env={"TRTBERT_SERVE_API_KEYS": OTHER}, api_key_file=file) as server:
        yield server


def test_only_health_is_read_without_a_key(guarded: Server) -> None:
    for endpoint in ENDPOINTS:
        path = endpoint.path.format(name="embedder", version="1")
        response = guarded.http.request(endpoint.method, guarded.url + path)
        assert response.status == (200 if endpoint.is_public else 401), path
        assert "embedder" not in response.data.decode()
    assert [endpoint.path for endpoint in ENDPOINTS if endpoint.is_public] == ["/v2/health/live", "/v2/health/ready"]


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_every_key_opens(guarded: Server, key: str) -> None:
    basic = base64.b64encode(f"me:{key}".encode()).decode()
    for value in (f"Bearer {key}", f"bearer  {key}", f"Basic {basic}"):
        assert guarded.ask("/v1/models", **{"Authorization": value})[0] == 200


@pytest.mark.parametrize("value", ["", "Bearer", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", KEY, "Basic ???", "Basic bWU=", f"Token {KEY}"])
def test_a_wrong_key_does_not(guarded: Server, value: str) -> None:
    status, answer = guarded.ask("/v1/models", **{"Authorization": value})
    assert status == 401 and KEY not in json.dumps(answer)


def test_keys_without_a_server() -> None:
    assert Keys([]).allow(b"") and not Keys([]).are_needed
    assert not read_keys(ServeConfig()).are_needed
    config = read_config(
        {"port": 9}, {"TRTBERT_SERVE_API_KEYS": f"{KEY},{OTHER}", "TRTBERT_SERVE_PORT": "1", "TRTBERT_SERVE_TIMEOUT": "2.5"}
    )
    assert (config.port, config.timeout) == (9, 2.5)
    assert KEY not in repr(config)
    assert read_keys(config).allow(f"Bearer {OTHER}".encode())


def test_wrong_options_are_named_as_they_were_given() -> None:
    """By the flag, or the variable where no flag wins."""
    environment = {"TRTBERT_SERVE_PORT": "x", "TRTBERT_SERVE_QUEUE_TOKENS": "600", "TRTBERT_SERVE_TIMEOUT": "x"}
    with pytest.raises(ConfigError) as error:
        read_config({"workers": 0, "timeout": 3.0}, environment)
    assert sorted(re.findall(r"\n  (\S+): ", str(error.value))) == ["--workers", "TRTBERT_SERVE_PORT"]
    with pytest.raises(ConfigError, match="TRTBERT_SERVE_QUEUE_TOKENS 600 would never take a request of --max-tokens 700; raise it"):
        read_config({"max_tokens": 700}, {"TRTBERT_SERVE_QUEUE_TOKENS": "600"})


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_times_end(value: str) -> None:
    with pytest.raises(ConfigError, match=r"--drain-timeout: .*finite"):
        read_config({"drain_timeout": value}, {})


def test_a_package_has_the_name_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("one")
    monkeypatch.chdir(tmp_path / "one" / "inner")
    assert list(name_packages([Path(".."), Path(), tmp_path / "link"])) == ["one", "inner", "link"]
    with pytest.raises(ConfigError, match="both be served as 'one'"):
        name_packages([Path(".."), tmp_path / "one"])


def test_a_key_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbf" + f"{KEY}\r\n{OTHER}\r\n".encode())
    keys = read_keys(ServeConfig(api_key_file=file))
    assert keys.allow(f"Bearer {KEY}".encode()) and keys.allow(f"Bearer {OTHER}".encode()) and not keys.allow(b"Bearer ")


def make_certificate(folder: Path, name: str, *options: str) -> tuple[Path, Path]:
    """Certificate and key; `options` of openssl say how the key is kept."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *(options or ("-nodes",)), *names], check=True, capture_output=True)
    return certificate, key


def test_tls_files_that_cannot_be_used(tmp_path: Path) -> None:
    """Each is said by its option and name, before the server listens; nobody is asked for a pass phrase."""
    certificate, key = make_certificate(tmp_path, "one")
    other = make_certificate(tmp_path, "other")[1]
    encrypted = make_certificate(tmp_path, "encrypted", "-passout", "pass:secret")[1]
    nothing, text = tmp_path / "nothing", tmp_path / "text"
    text.write_text("no PEM")
    for files, messages in (
        ((nothing, key, None), [f"--tls-cert, {nothing}, cannot be read: No such file"]),
        ((certificate, nothing, None), [f"--tls-key, {nothing}, cannot be read"]),
        ((certificate, tmp_path, None), [f"--tls-key, {tmp_path}, cannot be read: Is a directory"]),
        ((certificate, key, nothing), [f"--tls-client-ca, {nothing}, cannot be read"]),
        ((text, key, None), [f"--tls-cert, {text}, cannot be used", "each as a PEM file"]),
        ((certificate, text, None), [f"--tls-key, {text}: ", "each as a PEM file"]),
        ((certificate, other, None), [f"--tls-cert, {certificate}", f"--tls-key, {other}: key values mismatch"]),
        ((certificate, encrypted, None), [f"--tls-key, {encrypted}, is encrypted", "openssl pkey"]),
        ((certificate, key, text), [f"--tls-client-ca, {text}, cannot be used"]),
    ):
        with pytest.raises(ConfigError) as error:
            tls_context(ServeConfig(tls_cert=files[0], tls_key=files[1], tls_client_ca=files[2]))
        assert all(message in str(error.value) for message in messages), error.value
    assert tls_context(ServeConfig()) is None
    context = tls_context(ServeConfig(tls_cert=certificate, tls_key=key, tls_client_ca=certificate))
    assert context is not None and context.verify_mode == ssl.CERT_REQUIRED and context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_tls(packages: dict[str, Path], tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "server")
    with serving(packages["embedder"], tls_cert=certificate, tls_key=key, tls_client_ca=certificate) as server:
        assert server.url.startswith("https://")
        both = {"ca_certs": str(certificate), "retries": False}
        known = urllib3.PoolManager(cert_file=str(certificate), key_file=str(key), **both)
        assert known.request("GET", f"{server.url}/v2/health/ready").status == 200
        with pytest.raises((urllib3.exceptions.HTTPError, ssl.SSLError)):
            urllib3.PoolManager(**both).request("GET", f"{server.url}/v2/health/ready")
        with pytest.raises(urllib3.exceptions.HTTPError):
            urllib3.PoolManager(retries=False).request("GET", f"http://127.0.0.1:{server.port}/v2/health/ready")
        assert known.request("GET", f"{server.url}/v2/health/ready").status == 200
        known.clear()


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_need_nothing_else(server: Server, path: str) -> None:
    response = server.http.request("GET", server.url + path)
    text = response.data.decode()
    assert response.status == 200 and "<h1>trtbert" in text
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:|//)|@import|url\(""", text)
    assert (
        "default-src 'none'" in response.headers["Content-Security-Policy"] and "unsafe" not in response.headers["Content-Security-Policy"]
    )
    assert "innerHTML" not in text and not re.findall(r"<[^>]+\son\w+=", text)
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_the_description_names_what_there_is(server: Server) -> None:
    status, description = server.ask("/openapi.json")
    assert status == 200 and description["openapi"].startswith("3.1")
    assert {(path, method) for path, methods in description["paths"].items() for method in methods} == {
        (endpoint.path, endpoint.method.lower()) for endpoint in ENDPOINTS
    }
    schemas = description["components"]["schemas"]
    references = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(description))
    assert {"EmbeddingsRequest", "RerankResponse", "InferRequest"} <= set(references) <= set(schemas)
    operations = [operation for methods in description["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert description["paths"]["/v2/health/live"]["get"]["security"] == []
    assert description["security"] == [] and "securitySchemes" not in description["components"], "it has no keys"
    names = ["classifier", "embedder", "filler", "ranker", "reader", "tagger"]
    assert schemas["PredictRequest"]["properties"]["model"]["enum"] == names
    assert description["paths"]["/v2/models/{name}/ready"]["get"]["parameters"][0]["schema"]["enum"] == names


def test_logs_hold_no_text(server: Server) -> None:
    server.ask("/v1/embeddings", {"model": "embedder", "input": SECRET})
    server.ask("/v1/predict", {"model": "filler", "inputs": [SECRET]})
    server.ask("/v1/embeddings", {"model": SECRET, "input": "a"})
    server.ask(f"/{SECRET.replace(' ', '%20')}?q={SECRET.replace(' ', '+')}", **{"User-Agent": SECRET})
    record = server.wait_for("request", len([r for r in server.log if r["event"] == "request"]))
    assert record.keys() == {"time", "level", "process", "event", "endpoint", "status", "milliseconds"}
    assert "private" not in json.dumps(server.log)


def test_metrics_are_summed_over_workers() -> None:
    metrics = Metrics(["infer"], ['a"b'], 2)
    for worker in (0, 1):
        row = metrics.row(worker)
        row.add("trtbert_requests_total", "infer", "200", value=worker + 1)
        row.set("trtbert_queue_tokens", 5)
        row.observe("trtbert_wait_seconds", 'a"b', 0.02)
    row.observe("trtbert_wait_seconds", 'a"b', 99.0)
    lines = metrics.text().splitlines()
    assert 'trtbert_requests_total{endpoint="infer",status="200"} 3' in lines
    assert "trtbert_queue_tokens 10" in lines
    waits = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("trtbert_wait_seconds")}
    assert waits['trtbert_wait_seconds_bucket{model="a\\"b",le="0.01"}'] == 0
    assert waits['trtbert_wait_seconds_bucket{model="a\\"b",le="0.025"}'] == 2
    assert waits['trtbert_wait_seconds_bucket{model="a\\"b",le="+Inf"}'] == waits['trtbert_wait_seconds_count{model="a\\"b"}'] == 3
    assert waits['trtbert_wait_seconds_sum{model="a\\"b"}'] == pytest.approx(99.04)
