"""INT8 packages of tiny foreign models: the accuracy budget, what the manifest says, the calibration cache, the presets."""

import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime
import pytest

import trtbert
from tests.sources import BERT, make_source
from trtbert.cli import main
from trtbert.config import CompileConfig, config_from_mapping
from trtbert.errors import ConfigError, InputError, VerificationError
from trtbert.export import load_source
from trtbert.package import ModelFacts, Package, Quantization, open_package
from trtbert.quantization import Quantized, quantize
from trtbert.rewrite import rewrite

EMBEDDER = "bert-sdpa-opset14.onnx"
QA = "distilbert-question-answering-relu-eager-opset13.onnx"
LABELS = ("LABEL_0", "LABEL_1", "LABEL_2")
GEMMS = ("qkv", "attention output", "ffn up", "ffn down")
ALL_GEMMS = [f"layer {layer} {gemm}" for layer in (0, 1) for gemm in GEMMS]
FRAGILE = "layer 1 ffn down"
Array = npt.NDArray[Any]
Output = pytest.CaptureFixture[str]


def words(num: int, *, longest: int = 20, seed: int = 0) -> list[str]:
    """Texts of 1 to `longest` words that the tokenizers of the foreign files know."""
    rng = random.Random(seed)
    return [" ".join(f"w{rng.randrange(54)}" for _ in range(1 + index % longest)) for index in range(num)]


@dataclass(frozen=True)
class Fused:
    """A model as the stage `calibrate` takes it."""

    model: ir.Model
    facts: ModelFacts
    tokenizer: Path
    sha256: str


@dataclass(frozen=True)
class Source:
    """A .onnx file, the folder of its tokenizer, and a file of 80 texts to calibrate on."""

    model: Path
    tokenizer: Path
    texts: Path

    @cached_property
    def fused(self) -> Fused:
        source = load_source(self.model, CompileConfig(tokenizer=self.tokenizer), self.texts.with_name("out"))
        known = source.facts
        fused = rewrite(source.model, architecture=known.architecture, num_layers=known.num_layers).model
        return Fused(fused, known, self.texts.with_name("out") / known.tokenizer.file, source.fingerprint["sha256"])

    def quantized(self, folder: Path, **options: Any) -> Quantized:
        """What the stage `calibrate` makes of it; its cache is written to the folder."""
        fused = self.fused
        return quantize(
            fused.model,
            fused.facts,
            fused.tokenizer,
            self.config(**options),
            source_sha256=fused.sha256,
            cache=folder / "calibration.cache",
            on_progress=lambda *_: None,
        )

    def config(self, **options: Any) -> CompileConfig:
        """For ONNX Runtime, calibrated on the texts; None takes an option away."""
        defaults = {"runtime": "onnxruntime", "tokenizer": self.tokenizer, "calibration_data": self.texts}
        given = {name: value for name, value in (defaults | options).items() if value is not None}
        return config_from_mapping(given | {"precision": "int8"})


def make(folder: Path, name: str) -> Source:
    folder.mkdir(exist_ok=True)
    model, tokenizer = make_source(folder, name)
    (folder / "texts.txt").write_text("\n".join(words(80)))
    return Source(model, tokenizer, folder / "texts.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quantization")


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Source:
    return make(folder / "classifier", BERT)


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Source:
    return make(folder / "embedder", EMBEDDER)


@pytest.fixture(scope="module")
def package(classifier: Source, folder: Path) -> Package:
    """The classifier with nothing but defaults, and the graphs of its stages in `dump`."""
    return trtbert.compile(classifier.model, folder / "package", classifier.config(), dump=folder / "dump")


def facts(package: Package) -> Quantization:
    manifest = open_package(package.path).manifest
    assert manifest.precision == "int8" and manifest.quantization is not None
    return manifest.quantization


def in_float(found: Quantization) -> list[str]:
    return [part.part for part in found.parts if not part.is_int8]


# One fragile layer


@pytest.fixture(scope="module")
def fragile(folder: Path) -> Source:
    """A classifier with four FFN neurons that are 3000 times as large as the others, where INT8 sees one or the others."""
    plain = make(folder / "fragile", BERT)
    model = ir.load(plain.model)
    up, down = (f"onnx::MatMul_{number}" for number in (349, 350))
    change(model, up, lambda weight_KN: weight_KN * np.where(np.arange(20) < 4, 3000, 1))
    change(model, "bert.encoder.layer.1.intermediate.dense.bias", lambda bias_N: bias_N * np.where(np.arange(20) < 4, 3000, 1))
    change(model, down, lambda weight_KN: 4 * weight_KN / np.where(np.arange(20) < 4, 3000, 1)[:, None])
    change(model, "classifier.weight", lambda weight_LK: 8 * weight_LK)
    path = folder / "fragile" / "fragile.onnx"
    ir.save(model, path)
    middle_L = np.median(answers(path, plain.tokenizer, words(200)), 0)
    change(model, "classifier.bias", lambda bias_L: bias_L - middle_L)
    ir.save(model, path)
    return Source(path, plain.tokenizer, plain.texts)


def change(model: ir.Model, name: str, edit: Callable[[Array], Array]) -> None:
    value = model.graph.initializers[name]
    assert value.const_value is not None
    value.const_value = ir.tensor(edit(value.const_value.numpy()).astype(np.float32), name=name)


def answers(model: Path, tokenizer: Path, texts: list[str]) -> Array:
    """The logits [texts, labels] of the untouched file, text by text."""
    vocabulary = json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"]
    session, rows = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"]), []
    for text in texts:
        ids = np.array([[vocabulary[word] for word in text.split()]])
        rows.append(session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)})[0][0])
    return np.stack(rows)


@pytest.fixture(scope="module")
def labelled(fragile: Source, folder: Path) -> Path:
    """Texts with the labels that the float model gives them, where it is sure of them."""
    texts = words(400, seed=1)
    logits_RL = answers(fragile.model, fragile.tokenizer, texts)
    best_RL = np.sort(logits_RL, axis=1)
    is_sure_R = best_RL[:, -1] - best_RL[:, -2] > 0.3
    labels = [LABELS[index] for index in logits_RL.argmax(1)]
    rows = [f"{text},{label}" for text, label, is_sure in zip(texts, labels, is_sure_R, strict=True) if is_sure]
    assert len(rows) > 200 and min(Counter(row.split(",")[1] for row in rows).values()) > 40
    path = folder / "labelled.csv"
    path.write_text("\n".join(["text,label", *rows]))
    return path


@pytest.fixture(scope="module")
def repaired(fragile: Source, labelled: Path, folder: Path) -> Package:
    """Compiled with no drop allowed, and no smoothing, which would repair the layer by itself."""
    config = fragile.config(smooth=False, eval_data=labelled, max_drop=0.0)
    return trtbert.compile(fragile.model, folder / "repaired", config, dump=folder / "repaired-dump")


def test_the_fragile_layer_breaks_the_answers(fragile: Source, labelled: Path, tmp_path: Path) -> None:
    budget = fragile.quantized(tmp_path, smooth=False, eval_data=labelled, max_drop=100.0).facts.budget
    assert budget is not None
    assert (budget.metric, budget.float_score) == ("accuracy", 100.0) and budget.int8_score < 90


def test_broken_answers_are_refused_where_there_is_no_budget(fragile: Source, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"on 10 texts held back .* Give --max-drop POINTS to keep the layers in float"):
        trtbert.compile(fragile.model, tmp_path / "package", fragile.config(smooth=False))
    assert list(tmp_path.iterdir()) == []


def test_no_drop_reverts_the_fragile_layer_alone(repaired: Package) -> None:
    found = facts(repaired)
    assert in_float(found) == [FRAGILE]
    assert [part.part for part in found.parts] == [*ALL_GEMMS, "word embedding"]
    assert f"stays in float to keep the accuracy: {FRAGILE}" in repaired.manifest.notes


def test_what_each_part_costs_is_recorded(repaired: Package) -> None:
    costs = {part.part: part.cost for part in facts(repaired).parts}
    known = {part: cost for part, cost in costs.items() if cost is not None}
    assert known.keys() == costs.keys()
    fragile_cost = known.pop(FRAGILE)
    assert fragile_cost > 0.1 and all(0 < cost < fragile_cost / 100 for cost in known.values())


def test_the_score_is_within_the_budget(repaired: Package, labelled: Path) -> None:
    budget = facts(repaired).budget
    assert budget is not None
    rows = [line.split(",") for line in labelled.read_text().splitlines()[1:]]
    assert (budget.metric, budget.max_drop, budget.num_examples) == ("accuracy", 0.0, len(rows))
    assert budget.float_score == budget.int8_score == 100.0
    predicted = trtbert.load(repaired.path).predict([text for text, _ in rows])
    assert [answer["label"] for answer in predicted] == [label for _, label in rows]


def test_only_that_gemm_is_computed_in_float(repaired: Package, folder: Path) -> None:
    graph = ir.load(folder / "repaired-dump" / "03-calibrate.onnx").graph
    before = ir.load(folder / "repaired-dump" / "02-rewrite.onnx").graph
    assert len(int8_weights(graph)) == len(ALL_GEMMS)  # seven of the eight, and the word embedding
    (kept,) = (name for name in float_weights(graph) if name in float_weights(before) and float_weights(before)[name].shape == (20, 16))
    assert np.array_equal(float_weights(graph)[kept], float_weights(before)[kept])
    assert repaired.engine_path.name == "model.onnx"


def test_smoothing_keeps_the_fragile_layer_in_int8(fragile: Source, labelled: Path, tmp_path: Path) -> None:
    found = fragile.quantized(tmp_path, eval_data=labelled, max_drop=0.0).facts
    assert found.is_smoothed and in_float(found) == []
    errors = {trial.is_smoothed: trial.error for trial in found.trials}
    assert errors[True] < errors[False] / 100 and found.error < errors[False] / 100


# A budget that cannot be met


@pytest.fixture(scope="module")
def impossible(embedder: Source, folder: Path) -> VerificationError:
    (folder / "impossible").mkdir()
    config = embedder.config(task="sentence-similarity", max_drop=0.0)
    with pytest.raises(VerificationError) as caught:
        trtbert.compile(embedder.model, folder / "impossible" / "package", config)
    return caught.value


def test_an_impossible_budget_leaves_nothing(impossible: VerificationError, folder: Path) -> None:
    assert impossible.exit_code == 4
    assert list((folder / "impossible").iterdir()) == []


def test_an_impossible_budget_says_what_each_part_costs(impossible: VerificationError) -> None:
    lines = str(impossible).splitlines()
    table = {line[:34].strip(): float(line[34:]) for line in lines if line.startswith("  ")}
    assert table.keys() == {*ALL_GEMMS, "word embedding"}
    assert list(table.values()) == sorted(table.values(), reverse=True) and all(cost > 0 for cost in table.values())
    assert "points of fidelity on 10 examples" in lines[0] and "--max-drop allows 0" in lines[0]
    assert all(option in lines[-1] for option in ("--max-drop", "--calibration-method auto", "--precision fp16"))


def test_an_impossible_budget_says_what_is_missing(impossible: VerificationError) -> None:
    costs = str(impossible).removeprefix("INT8 costs ").split()[0]
    assert float(costs) > 0


# Examples of the user's


def evaluated(source: Source, folder: Path, **options: Any) -> Any:
    return source.quantized(folder, smooth=False, max_drop=100.0, **options).facts.budget


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_without_examples_the_texts_held_back_are_compared(classifier: Source, tmp_path: Path) -> None:
    budget = evaluated(classifier, tmp_path)
    assert (budget.metric, budget.num_examples, budget.float_score) == ("fidelity", 10, 100.0)


def test_texts_without_labels_are_compared(classifier: Source, tmp_path: Path) -> None:
    budget = evaluated(classifier, tmp_path, eval_data=write(tmp_path / "texts.txt", "\n".join(words(33))))
    assert (budget.metric, budget.num_examples, budget.float_score) == ("fidelity", 33, 100.0)


def test_the_ending_of_a_file_is_read_in_any_case(classifier: Source, tmp_path: Path) -> None:
    assert evaluated(classifier, tmp_path, eval_data=write(tmp_path / "TEXTS.TXT", "\n".join(words(33)))).metric == "fidelity"


@pytest.mark.parametrize(("metric", "measured"), [(None, "accuracy"), ("macro-f1", "macro-f1"), ("fidelity", "fidelity")])
def test_labelled_texts(metric: str | None, measured: str, classifier: Source, tmp_path: Path) -> None:
    rows = "\n".join(f"{text},{index % 3}" for index, text in enumerate(words(30)))
    budget = evaluated(classifier, tmp_path, eval_data=write(tmp_path / "a.csv", f"text,label\n{rows}"), metric=metric)
    assert (budget.metric, budget.num_examples) == (measured, 30)
    assert (budget.float_score == 100.0) == (measured == "fidelity") and budget.int8_score > 0


def test_questions_about_long_contexts_are_compared(folder: Path, tmp_path: Path) -> None:
    source = make(folder / "qa", QA)
    rows = [json.dumps({"question": short, "context": long}) for short, long in zip(words(20, longest=3), words(20), strict=True)]
    rows.append(json.dumps({"question": "w1 w2", "context": " ".join(words(20))}))
    budget = evaluated(source, tmp_path, eval_data=write(tmp_path / "a.jsonl", "\n".join(rows)), metric="fidelity")
    assert (budget.metric, budget.num_examples) == ("fidelity", 21)


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a metric of another task": ({"metric": "squad-f1"}, ConfigError, r"--metric squad-f1 is none for text-classification; choose one of"),
    "a metric with nothing to measure": ({"metric": "accuracy"}, ConfigError, r"--metric accuracy needs labelled examples; give them with"),
    "a label of another model": ({"rows": "text,label\nw1,LABEL_1\nw2,sad\n"}, InputError, r"a\.csv, line 3: the model has no label 'sad'"),
    "no label": ({"rows": "text,colour\nw1,red\n"}, InputError, r"a\.csv, line 2: there is no column for the label"),
    "no rows": ({"rows": "text,label\n"}, InputError, r"a\.csv holds no example"),
    "no file": ({"eval_data": Path("missing.csv")}, InputError, r"missing\.csv does not exist"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_nothing_can_be_measured_on(name: str, classifier: Source, tmp_path: Path) -> None:
    options, error, message = WRONG[name]
    if "rows" in options:
        options = {"eval_data": write(tmp_path / "a.csv", options["rows"])}
    with pytest.raises(error, match=message):
        evaluated(classifier, tmp_path, **options)
    assert not (tmp_path / "calibration.cache").exists()


def test_examples_need_a_budget(classifier: Source) -> None:
    with pytest.raises(ConfigError, match="max_drop is measured on; add max_drop, the points that INT8 may cost"):
        classifier.config(eval_data=classifier.texts)


# What the manifest says


def test_the_manifest_says_how_it_was_calibrated(package: Package, classifier: Source) -> None:
    found = facts(package)
    assert (found.preset, found.method, found.budget) == ("linear", "entropy", None)
    assert (found.texts, found.num_texts, found.num_held_back) == (str(classifier.texts), 70, 10)
    trials = {(trial.method, trial.is_smoothed): trial.error for trial in found.trials}
    assert trials.keys() == {("entropy", False), ("entropy", True)}
    assert trials["entropy", found.is_smoothed] <= 0.95 * trials["entropy", not found.is_smoothed] or not found.is_smoothed
    assert 0 < found.error < 1e-3
    assert package.manifest.notes[0] == "calibrated on 80 texts only; some hundreds are better"


def test_the_manifest_says_how_each_part_is_quantized(package: Package) -> None:
    parts = facts(package).parts
    assert [part.part for part in parts] == [*ALL_GEMMS, "word embedding"]
    assert all(part.is_int8 and part.cost is None for part in parts)
    for part in parts[:-1]:
        assert part.tensor and part.threshold and part.maximum and part.scale is not None and part.shift is not None
        assert 0 < part.threshold <= part.maximum
        assert np.float16(part.scale) == np.float32(part.scale)
        assert 127 * part.scale + abs(part.shift) >= 0.999 * part.threshold
    assert parts[-1].tensor is None, "rows have a scale each"


def test_auto_tries_every_method(classifier: Source, tmp_path: Path) -> None:
    found = classifier.quantized(tmp_path, calibration_method="auto").facts
    tried = Counter((trial.method, trial.is_smoothed) for trial in found.trials)
    assert tried == Counter((method, smooth) for method in ("entropy", "minmax", "mse", "percentile") for smooth in (False, True))
    errors = {(trial.method, trial.is_smoothed): trial.error for trial in found.trials}
    assert errors[found.method, found.is_smoothed] <= min(errors.values()) / 0.95, "what clips less may be 5 % worse"


@pytest.mark.parametrize("is_smoothed", [False, True])
def test_smoothing_is_as_it_is_asked_for(is_smoothed: bool, classifier: Source, tmp_path: Path) -> None:
    found = classifier.quantized(tmp_path, smooth=is_smoothed).facts
    assert found.is_smoothed == is_smoothed and [trial.is_smoothed for trial in found.trials] == [is_smoothed]


def test_inspect_prints_it(repaired: Package, capsys: Output) -> None:
    assert main(["inspect", str(repaired.path)]) == 0
    text = capsys.readouterr().out
    assert "int8   8 of 9 parts (linear), thresholds by entropy, not smoothed" in text
    assert "int8   calibrated on 70 texts (" in text and "; 10 held back: error " in text
    assert "int8   accuracy 100.00 -> 100.00 on " in text and "costs 0.00 points of the 0 allowed" in text
    rows = [line.split() for line in text.splitlines() if " cost " in line]
    assert [" ".join(row[1:-2]) for row in rows] == [*ALL_GEMMS, "word embedding"]
    assert [" ".join(row[1:-2]) for row in rows if row[0] == "float"] == [FRAGILE]


# The calibration cache


def cache(package: Package) -> Path:
    return package.path / "calibration.cache"


def copied(package: Package, folder: Path) -> Path:
    for name in ("calibration.cache", "calibration.cache.json"):
        shutil.copy(package.path / name, folder / name)
    return folder / "calibration.cache"


def test_a_package_holds_its_calibration(package: Package) -> None:
    assert {"calibration.cache", "calibration.cache.json"} <= package.manifest.files.keys()
    lines = cache(package).read_text().splitlines()
    assert lines[0].startswith("TRT-") and lines[0].endswith("-EntropyCalibration2")
    assert len(lines) == 1 + len(ALL_GEMMS)


def test_a_calibration_is_repeated_for_another_target(package: Package, classifier: Source, folder: Path, tmp_path: Path) -> None:
    steps = Counter[str]()
    config = classifier.config(runtime="openvino", calibration_data=None, calibration_cache=cache(package))
    second = trtbert.compile(
        classifier.model, tmp_path / "p", config, dump=tmp_path / "dump", on_progress=lambda what, *_: steps.update([what])
    )
    assert second.runtime == "openvino" and not steps, "something was measured"
    assert facts(second) == facts(package) and second.manifest.notes == package.manifest.notes
    assert cache(second).read_bytes() == cache(package).read_bytes()
    assert stored(tmp_path / "dump") == stored(folder / "dump")


def test_the_same_calibration_gives_the_same_bytes(package: Package, classifier: Source, folder: Path, tmp_path: Path) -> None:
    second = trtbert.compile(classifier.model, tmp_path / "p", classifier.config(), dump=tmp_path / "dump")
    assert len([name for name, (dtype, _) in stored(folder / "dump").items() if dtype == "INT8"]) > len(ALL_GEMMS)
    assert stored(tmp_path / "dump") == stored(folder / "dump")
    assert cache(second).read_bytes() == cache(package).read_bytes()


def stored(dump: Path) -> dict[str, tuple[str, bytes]]:
    """The type and the bytes of every constant of the Q/DQ graph."""
    initializers = ir.load(dump / "03-calibrate.onnx").graph.initializers
    return {name: (value.dtype.name, array(value).tobytes()) for name, value in initializers.items()}  # type: ignore[union-attr]


def test_a_cache_keeps_what_was_reverted(repaired: Package, fragile: Source, tmp_path: Path) -> None:
    second = fragile.quantized(tmp_path, calibration_data=None, calibration_cache=cache(repaired)).facts
    assert in_float(second) == [FRAGILE] and second == facts(repaired)


def refusal(source: Source, path: Path, folder: Path) -> str:
    """Why the cache is refused by the whole pipeline, which leaves nothing."""
    with pytest.raises(InputError) as caught:
        trtbert.compile(source.model, folder / "package", source.config(calibration_data=None, calibration_cache=path))
    assert not [path for path in folder.iterdir() if "package" in path.name]
    return str(caught.value)


def test_a_cache_of_another_model_is_refused(package: Package, embedder: Source, tmp_path: Path) -> None:
    assert "another model, task made it" in refusal(embedder, cache(package), tmp_path)


def test_a_cache_of_other_weights_is_refused(package: Package, fragile: Source, tmp_path: Path) -> None:
    assert "another model made it" in refusal(fragile, cache(package), tmp_path)


def test_a_cache_of_another_tokenizer_is_refused(package: Package, classifier: Source, tmp_path: Path) -> None:
    tokenizer = Path(shutil.copytree(classifier.tokenizer, tmp_path / "tokenizer"))
    text = (tokenizer / "tokenizer.json").read_text()
    assert '"w9"' in text
    (tokenizer / "tokenizer.json").write_text(text.replace('"w9"', '"nine"'))
    other = Source(classifier.model, tokenizer, classifier.texts)
    assert "another tokenizer made it" in refusal(other, cache(package), tmp_path)


def test_an_altered_cache_is_refused(package: Package, classifier: Source, tmp_path: Path) -> None:
    path = copied(package, tmp_path)
    path.write_text(path.read_text().replace(": 3", ": 4", 1))
    assert "was altered" in refusal(classifier, path, tmp_path)


def test_a_cache_alone_is_refused(package: Package, classifier: Source, tmp_path: Path) -> None:
    path = copied(package, tmp_path)
    (tmp_path / "calibration.cache.json").unlink()
    assert "calibration.cache.json is missing" in refusal(classifier, path, tmp_path)


def with_details(path: Path, change: Callable[[dict[str, Any]], object], *, is_signed: bool) -> Path:
    """The cache with other details beside it, with or without the sha256 that goes with them."""
    sidecar = json.loads(path.with_name("calibration.cache.json").read_text())
    change(sidecar["details"])
    if is_signed:
        sidecar["details_sha256"] = hashlib.sha256(json.dumps(sidecar["details"], sort_keys=True).encode()).hexdigest()
    path.with_name("calibration.cache.json").write_text(json.dumps(sidecar))
    return path


def test_an_altered_calibration_is_refused(package: Package, classifier: Source, tmp_path: Path) -> None:
    path = with_details(copied(package, tmp_path), lambda details: details["kept"].pop(), is_signed=False)
    assert "calibration.cache.json was altered" in refusal(classifier, path, tmp_path)


@pytest.mark.parametrize("removed", ["calibration", "kept", "facts", "notes"])
def test_half_a_calibration_is_refused(removed: str, package: Package, classifier: Source, tmp_path: Path) -> None:
    path = with_details(copied(package, tmp_path), lambda details: details.pop(removed), is_signed=True)
    with pytest.raises(InputError, match="does not hold a whole calibration"):
        classifier.quantized(tmp_path / "out", calibration_data=None, calibration_cache=path)


def test_options_that_a_cache_decides_are_refused(package: Package, classifier: Source) -> None:
    with pytest.raises(
        ConfigError, match="calibration_cache says all about a calibration, so that calibration_data, smooth cannot be given"
    ):
        classifier.config(calibration_cache=cache(package), smooth=True)


# The presets


def array(value: ir.Value) -> Array:
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy())


def int8_weights(graph: ir.Graph) -> list[tuple[int, ...]]:
    """The shapes of the INT8 matrices, sorted."""
    return sorted(array(value).shape for value in graph.initializers.values() if value.dtype == ir.DataType.INT8 and array(value).ndim == 2)


def float_weights(graph: ir.Graph) -> dict[str, Array]:
    arrays = {name: array(value) for name, value in graph.initializers.items()}
    return {name: weight for name, weight in arrays.items() if weight.dtype == np.float32 and weight.ndim == 2}


def ops(graph: ir.Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph)


TABLE, QKV, OUT, UP, DOWN = (320, 16), (16, 48), (16, 16), (16, 20), (20, 16)


def test_the_preset_linear(classifier: Source, tmp_path: Path) -> None:
    found = classifier.quantized(tmp_path, smooth=False)
    assert int8_weights(found.model.graph) == sorted([TABLE, *[QKV, OUT, UP, DOWN] * 2])
    assert (ops(found.model.graph)["QuantizeLinear"], ops(found.model.graph)["DequantizeLinear"]) == (8, 8 + 9)
    assert sorted(weight.shape for weight in float_weights(found.model.graph).values()) == sorted([(26, 16), (2, 16), (16, 16), (3, 16)])
    assert [node.overload for node in found.model.graph if node.op_type == "FusedQkvAttention"] == ["", ""]


def test_the_preset_ffn(classifier: Source, tmp_path: Path) -> None:
    found = classifier.quantized(tmp_path, smooth=False, quantize="ffn")
    assert int8_weights(found.model.graph) == sorted([TABLE, *[UP, DOWN] * 2])
    assert (ops(found.model.graph)["QuantizeLinear"], ops(found.model.graph)["DequantizeLinear"]) == (4, 4 + 5)
    before, after = float_weights(classifier.fused.model.graph), float_weights(found.model.graph)
    assert after.keys() <= before.keys() and all(np.array_equal(before[name], weight) for name, weight in after.items())
    assert len(before) - len(after) == 5


def test_the_preset_full(classifier: Source, tmp_path: Path) -> None:
    found = classifier.quantized(tmp_path, smooth=False, quantize="full")
    assert int8_weights(found.model.graph) == sorted([TABLE, *[QKV, OUT, UP, DOWN] * 2])
    attentions = [node for node in found.model.graph if node.op_type == "FusedQkvAttention"]
    assert [node.overload for node in attentions] == ["int8", "int8"]
    assert all(node.attributes[f"{name}_scale"].as_float() > 0 for node in attentions for name in ("q", "k", "v", "probability"))
    assert [residual_is_dequantized(node) for node in found.model.graph if node.op_type == "FusedSkipLayerNorm"] == [True] * 4
    labels = {part.part for part in found.facts.parts}
    assert {f"layer {layer} {part}" for layer in (0, 1) for part in ("attention products", "attention residual", "ffn residual")} <= labels


def residual_is_dequantized(node: ir.Node) -> bool:
    return any(value is not None and value.producer() is not None and _made_by(value) == "DequantizeLinear" for value in node.inputs[:2])


def _made_by(value: ir.Value) -> str:
    producer = value.producer()
    return "" if producer is None else producer.op_type


def test_without_the_word_embedding(classifier: Source, tmp_path: Path) -> None:
    found = classifier.quantized(tmp_path, smooth=False, quantize_embeddings=False)
    assert int8_weights(found.model.graph) == sorted([QKV, OUT, UP, DOWN] * 2)
    (table,) = (name for name, weight in float_weights(classifier.fused.model.graph).items() if weight.shape == TABLE)
    assert np.array_equal(float_weights(found.model.graph)[table], float_weights(classifier.fused.model.graph)[table])
    assert "word embedding" not in {part.part for part in found.facts.parts}
