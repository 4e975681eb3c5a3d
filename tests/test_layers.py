"""Running a package needs none of the libraries that made it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import trtbert
from tests.sources import make_source
from trtbert.config import CompileConfig

BLOCKED = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "safetensors", "tensorrt", "tensorrt_rtx", "polygraphy")
SCRIPT = """
import json, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in json.loads(sys.argv[1]):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Block())
"""
PREDICT = "import trtbert; print(json.dumps(trtbert.load(sys.argv[2]).predict(['w1 w2', 'w3'])))"
COMMAND = "from trtbert.cli import main; sys.exit(main(sys.argv[2:]))"


def _run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT + code, json.dumps(BLOCKED), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_telemetry_is_off_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime reads the variable when it is loaded."""
    code = "import os, trtbert.runtime.ort; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for own, expected in ((None, "1"), ("0", "0")):
        monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
        if own is not None:
            monkeypatch.setenv("ORT_DISABLE_TELEMETRY", own)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.strip() == expected


def test_load_and_predict_without_the_compiler(tmp_path: Path) -> None:
    path, tokenizer = make_source(tmp_path)
    package = trtbert.compile(path, tmp_path / "package", CompileConfig(tokenizer=tokenizer)).path
    done = _run(PREDICT, str(package))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == trtbert.load(package).predict(["w1 w2", "w3"])
    for arguments in (("predict", str(package), "w1"), ("inspect", str(package))):
        done = _run(COMMAND, *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_what_needs_the_compiler_says_so(tmp_path: Path) -> None:
    done = _run(COMMAND, "compile", str(tmp_path), "-o", str(tmp_path / "package"))
    assert done.returncode == 5
    assert "pip install 'trtbert[compile]'" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_importing_trtbert_imports_nothing_heavy() -> None:
    done = _run("import trtbert; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))")
    assert done.returncode == 0, done.stderr
    assert not {"numpy", "onnxruntime", "tokenizers", *BLOCKED} & set(json.loads(done.stdout))
