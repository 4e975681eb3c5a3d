"""A real Triton server over a model repository; what its wheel lacks is the backends of engines, for which Python models stand."""

import os
import shutil
import socket
import subprocess
import sysconfig
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

_HERE = Path(__file__).parent
_START_SECONDS = 60


@contextmanager
def serving(server: Path, repository: Path, bare: Path) -> Iterator[triton.InferenceServerClient]:
    """A client of the server in the folder `server`; `bare` holds the runtimes of the engines."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [server / "bin" / "tritonserver", f"--model-repository={repository}", f"--backend-directory={server / 'backends'}"]
    options = ["--http-address=127.0.0.1", f"--http-port={port}", "--http-thread-count=16"]
    closed = ["--allow-grpc=false", "--allow-metrics=false", "--disable-auto-complete-config"]
    # The server's Python has numpy, from beside its backend, what lies in the repository, and nothing else.
    python = repository.parent / "python"
    venv.create(python, with_pip=False)
    environment = {
        "PATH": f"{python}/bin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
        "OMP_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "TRTBERT_TEST_PATH": str(bare),
    }
    log = repository.with_suffix(".log")
    with log.open("w") as stream:
        process = subprocess.Popen([*map(str, command), *options, *closed], stdout=stream, stderr=stream, env=environment)
    client = triton.InferenceServerClient(f"127.0.0.1:{port}", concurrency=16)
    try:
        _wait_until_ready(process, client, log)
        yield client
        client.close()  # An open connection would keep the server for half a minute.
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def with_engines_in_python(repository: Path, copy: Path) -> Path:
    """The repository with nothing changed but the backend of its engines."""
    shutil.copytree(repository, copy)
    for folder in copy.glob("*_engine"):
        config = (folder / "config.pbtxt").read_text()
        changed = config.replace('backend: "onnxruntime"', 'backend: "python"').replace('default_model_filename: "model.onnx"\n', "")
        assert changed.count("python") == 1
        (folder / "config.pbtxt").write_text(changed)
        shutil.copyfile(_HERE / "engine_in_python.py", folder / "1" / "model.py")
    return copy


def _wait_until_ready(process: subprocess.Popen[bytes], client: triton.InferenceServerClient, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            if client.is_server_ready():
                return
        except (OSError, InferenceServerException):
            pass
        time.sleep(0.1)
    raise AssertionError(f"the server was not ready in {_START_SECONDS} seconds:\n{log.read_text()}")
