"""Foreign .onnx files: the committed ones of transformers 4, new ones of the dynamo exporter, and what is refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import pytest

from tests.export.onnx_files import GRAPH, write_onnx, write_tokenizer
from tests.export.running import assert_graph_equals_reference, batches
from tests.fixtures.make_foreign import FOREIGN, Foreign, export_dynamo
from tests.numerics import assert_close
from trtbert.config import CompileConfig
from trtbert.errors import InputError, UnsupportedError
from trtbert.export import Source, load_source
from trtbert.export.onnx_file import read_onnx
from trtbert.tasks import Task

FACTS: dict[str, Any] = json.loads((FOREIGN / "files.json").read_text())
_CONFIGS: dict[str, dict[str, Any]] = {
    "deberta-v2": {"model_type": "deberta-v2", "max_position_embeddings": 26},
    "modernbert": {"model_type": "modernbert", "max_position_embeddings": 26},
}


def _load(path: Path, folder: Path, *, task: Task | str = "auto") -> Source:
    return load_source(path, CompileConfig(task=task, tokenizer=folder), folder / "out")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FACTS)
def test_a_file_of_transformers_4(name: str, tmp_path: Path) -> None:
    facts = FACTS[name]
    folder = write_tokenizer(tmp_path, facts["architecture"])
    if config := _CONFIGS.get(facts["architecture"]):
        (folder / "config.json").write_text(json.dumps(config))
    source = _load(FOREIGN / name, folder)
    assert source.facts.task == facts["task"]
    assert source.facts.max_length == facts["max_length"]
    assert [t.name for t in source.facts.inputs] == facts["inputs"]
    if facts["labels"]:
        assert len(source.facts.labels) == len(facts["labels"])
    assert_graph_equals_reference(source, vocabulary_size=60)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_file_of_the_dynamo_exporter(attention: str, tmp_path: Path) -> None:
    foreign = Foreign(architecture="bert", attention=attention, opset=18 if attention == "eager" else 23, task="token-classification")
    export_dynamo(tmp_path / "model.onnx", foreign)
    source = _load(tmp_path / "model.onnx", write_tokenizer(tmp_path))
    assert source.facts.task == "token-classification"
    assert_graph_equals_reference(source, vocabulary_size=60)


def test_the_reference_is_the_untouched_file(tmp_path: Path) -> None:
    source = _load(write_onnx(tmp_path / "model.onnx"), write_tokenizer(tmp_path))
    words, positions = (onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "model.onnx").graph.initializer)
    feeds = list(batches(source.facts, vocabulary_size=60))[1]
    x = words[feeds["input_ids"]] + positions[:7]
    expected = x + (x * feeds["attention_mask"][:, :, None]).mean(1, keepdims=True)
    assert_close(source.reference(feeds)["last_hidden_state"], expected)
    assert source.facts.architecture == "unknown" and source.facts.num_layers is None
    assert set(source.fingerprint) == {"sha256", "onnxruntime"}


def test_config_json_tells_labels_and_task(tmp_path: Path) -> None:
    name = "bert-text-classification-gelu_new-eager-opset14.onnx"
    folder = write_tokenizer(tmp_path)
    labels = {"0": "bad", "1": "fair", "2": "good"}
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "id2label": labels, "num_hidden_layers": 2}
    config |= {"max_position_embeddings": 20, "problem_type": "multi_label_classification"}
    (folder / "config.json").write_text(json.dumps(config))
    source = _load(FOREIGN / name, folder)
    assert (source.facts.architecture, source.facts.labels, source.facts.activation) == ("bert", ("bad", "fair", "good"), "sigmoid")
    assert (source.facts.max_length, source.facts.num_layers) == (20, 2)
    assert_graph_equals_reference(source, vocabulary_size=60)


def test_sentence_similarity_of_hidden_states(tmp_path: Path) -> None:
    source = _load(write_onnx(tmp_path / "model.onnx"), write_tokenizer(tmp_path), task="sentence-similarity")
    assert [t.name for t in source.facts.outputs] == ["sentence_embedding"]
    assert source.facts.outputs[0].shape == ("batch", 4)
    assert_graph_equals_reference(source, vocabulary_size=60)


ACTIVATED = GRAPH.replace("last_hidden_state = Add (x, mean)", "h = Add (x, mean)\n  probabilities = Softmax <axis = -1> (h)").replace(
    "4] last_hidden_state", "4] probabilities"
)


def test_an_activation_of_the_graph_is_not_applied_twice(tmp_path: Path) -> None:
    source = _load(write_onnx(tmp_path / "model.onnx", ACTIVATED), write_tokenizer(tmp_path), task="token-classification")
    assert source.facts.activation == "softmax"
    assert [node.op_type for node in source.model.graph].count("Softmax") == 1
    feeds = list(batches(source.facts, vocabulary_size=60))[1]
    assert_close(source.reference(feeds)["scores"].sum(-1), np.ones((2, 7)))
    assert_graph_equals_reference(source, vocabulary_size=60)


def test_other_names_orders_and_types_of_inputs(tmp_path: Path) -> None:
    text = GRAPH.replace(
        "int64[batch, length] input_ids, int64[batch, length] attention_mask", "float[b, n] input_mask, int32[b, n] tokens"
    )
    text = text.replace("input_ids)", "tokens)").replace("(attention_mask)", "(input_mask)")
    source = _load(write_onnx(tmp_path / "model.onnx", text), write_tokenizer(tmp_path))
    assert [t.name for t in source.facts.inputs] == ["input_ids", "attention_mask"]
    assert_graph_equals_reference(source, vocabulary_size=60)


def test_external_data_beside_the_file(tmp_path: Path) -> None:
    onnx.save(
        onnx.load(write_onnx(tmp_path / "m.onnx")), tmp_path / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    source = _load(tmp_path / "model.onnx", write_tokenizer(tmp_path))
    assert_graph_equals_reference(source, vocabulary_size=60)
    data = (tmp_path / "w.bin").read_bytes()
    (tmp_path / "w.bin").write_bytes(data[:-8])
    with pytest.raises(InputError, match=r"external data of model.onnx is incomplete"):
        _load(tmp_path / "model.onnx", tmp_path)


Place = Callable[[onnx.ModelProto, onnx.TensorProto], object]


def _constant(tensor: onnx.TensorProto) -> onnx.NodeProto:
    return onnx.helper.make_node("Constant", [], ["unused"], value=tensor)


def _put_in_subgraph(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    branch = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["w"], ["y"])], "branch", [], [], [tensor])
    proto.graph.node.append(onnx.helper.make_node("If", ["last"], ["unused"], then_branch=branch, else_branch=branch))


def _put_in_function(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    proto.functions.append(onnx.helper.make_function("local", "F", [], ["unused"], [_constant(tensor)], proto.opset_import))


PLACES: dict[str, Place] = {
    "initializer": lambda proto, tensor: proto.graph.initializer.append(tensor),
    "constant": lambda proto, tensor: proto.graph.node.insert(0, _constant(tensor)),
    "subgraph": _put_in_subgraph,
    "function": _put_in_function,
}


def _write_external(path: Path, place: str = "initializer", **entries: str) -> None:
    proto = onnx.load(write_onnx(path))
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[2], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    PLACES[place](proto, tensor)
    path.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "link.bin"])
def test_external_data_elsewhere(location: str, place: str, tmp_path: Path) -> None:
    _write_external(tmp_path / "in" / "model.onnx", place, location=location)
    (tmp_path / "w.bin").write_bytes(bytes(8))
    (tmp_path / "in" / "link.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(InputError, match=r"external data must lie in the folder of the .onnx file"):
        read_onnx(tmp_path / "in" / "model.onnx")


@pytest.mark.parametrize(("key", "value"), [("offset", "abc"), ("offset", "-8"), ("length", "1e3"), ("length", "")])
def test_external_data_with_a_wrong_number(key: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    _write_external(tmp_path / "model.onnx", **{"location": "w.bin", key: value})
    with pytest.raises(InputError, match=f"is damaged: 'w' has {key} '{value}', where a whole number"):
        read_onnx(tmp_path / "model.onnx")


def test_a_file_that_contradicts_itself(tmp_path: Path) -> None:
    proto = onnx.load(write_onnx(tmp_path / "model.onnx"))
    proto.graph.initializer[0].data_type = 99
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match=r"is not a valid ONNX file: 99"):
        read_onnx(tmp_path / "model.onnx")


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"model.onnx is not a plain file"):
        read_onnx(tmp_path / "model.onnx")


INPUTS = "int64[batch, length] input_ids, int64[batch, length] attention_mask"
REFUSED: dict[str, tuple[str, str]] = {
    "quantised": (GRAPH.replace("Add (x, mean)", "DequantizeLinear (q, s, z)\n q, s, z = DynamicQuantizeLinear (x)"), "already quantised"),
    "fused": (
        GRAPH.replace('"" : 17', '"" : 17, "com.microsoft" : 1').replace("Add (x, mean)", "com.microsoft.SkipLayerNormalization (x, mean)"),
        r"already fused .*com\.microsoft\.SkipLayerNormalization",
    ),
    "our own": (
        GRAPH.replace('"" : 17', '"" : 17, "trtbert" : 1').replace("Add (x, mean)", "trtbert.FusedBiasGelu (x, mean)"),
        "already fused",
    ),
    "opset 10": (GRAPH.replace("17]", "10]"), "has opset 10; 11 to 23 are supported"),
    "opset 24": (GRAPH.replace("17]", "24]"), "has opset 24; 11 to 23 are supported"),
    "cache": (GRAPH.replace(INPUTS, INPUTS + ", float[b, 2, p, 4] past_key_values_0_key"), "is a decoder: it takes past_key_values"),
    "vision": (GRAPH.replace("input_ids", "pixel_values"), "no text encoder: it takes pixel_values, attention_mask, and no input_ids"),
    "no mask": (
        GRAPH.replace(", int64[batch, length] attention_mask", "").replace("(attention_mask)", "(input_ids)"),
        "but no attention_mask",
    ),
}
REFUSED["causal"] = (
    GRAPH.replace(
        "mean = ReduceMean <axes = [1], keepdims = 1> (kept)", "axis = Constant <value_int = 1> ()\n  mean = CumSum (kept, axis)"
    ),
    "is a causal decoder: the first token of last_hidden_state does not depend on the last one",
)
REFUSED["token by token"] = (
    GRAPH.replace("Add (x, mean)", "Add (x, x)"),
    "is no encoder: in last_hidden_state neither the first token depends on the last one, nor the last on the first",
)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_file(name: str, tmp_path: Path) -> None:
    text, message = REFUSED[name]
    path = write_onnx(tmp_path / "model.onnx", text)
    with pytest.raises(UnsupportedError, match=message) as caught:
        _load(path, write_tokenizer(tmp_path))
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_are_refused(dtype: type[np.generic], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"holds .* weights \(word_embeddings \[60, 4\]\)"):
        _load(write_onnx(tmp_path / "model.onnx", dtype=dtype), write_tokenizer(tmp_path))


def test_a_decoder_by_its_config(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(UnsupportedError, match="'gpt2'"):
        _load(write_onnx(tmp_path / "model.onnx"), folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": "BertLMHeadModel"}, "architectures must be a list of names, got 'BertLMHeadModel'"),
        ({"max_position_embeddings": "512"}, "max_position_embeddings must be .*, got '512'"),
        ({"max_position_embeddings": 2}, "max_position_embeddings in config.json allows 2 tokens"),
        ({"id2label": ["a"]}, "id2label must be an object"),
    ],
)
def test_wrong_values_in_its_config(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"} | changes))
    with pytest.raises(InputError, match=message):
        _load(write_onnx(tmp_path / "model.onnx"), folder)


BAD: dict[str, tuple[str, str]] = {
    "fixed": (GRAPH.replace("int64[batch, length] input_ids", "int64[1, 128] input_ids"), "fixed in batch to 1 and sequence to 128"),
    "unknown input": (
        GRAPH.replace(INPUTS, INPUTS + ", int64[batch, length] position_ids"),
        "takes position_ids, which trtbert cannot fill",
    ),
    "unknown output": (GRAPH.replace("last_hidden_state", "y"), r"outputs y \['batch', 'sequence', 4\] do not tell the task"),
    "rotary embedding": (
        GRAPH.replace('"" : 17', '"" : 23')
        .replace("mean = ReduceMean <axes = [1], keepdims = 1> (kept)", "mean = ReduceMean <keepdims = 1> (kept, one)")
        .replace(
            "last_hidden_state = Add (x, mean)",
            "h = Add (x, mean)\n  shape = Constant <value_ints = [1, 1, 1]> ()\n  table = Expand (ratio_0, shape)\n"
            "  last_hidden_state = RotaryEmbedding <num_heads = 1> (h, table, table)",
        )
        .replace("zero =", "ratio_0 = Constant <value_floats = [1.0]> ()\n  zero ="),
        "export with opset 18 to 22, or give the checkpoint",
    ),
    "does not run": (
        GRAPH.replace("Add (x, mean)", "Reshape (x, shape)").replace("zero =", "shape = Constant <value_ints = [1, 7, 4]> ()\n  zero ="),
        "fails on input_ids of shape",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_graph(name: str, tmp_path: Path) -> None:
    text, message = BAD[name]
    with pytest.raises(InputError, match=message):
        _load(write_onnx(tmp_path / "model.onnx", text), write_tokenizer(tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no ONNX graph"),
        (b"not an onnx file at all", "is not a whole ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_bad_bytes(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(InputError, match=message):
        _load(tmp_path / "model.onnx", write_tokenizer(tmp_path))


def test_a_truncated_file(tmp_path: Path) -> None:
    content = (FOREIGN / "bert-eager-opset11.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="is not a whole ONNX file"):
        _load(tmp_path / "model.onnx", write_tokenizer(tmp_path))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model.onnx does not exist"):
        _load(tmp_path / "model.onnx", write_tokenizer(tmp_path))


def test_a_missing_or_larger_tokenizer(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"holds no tokenizer.*--tokenizer"):
        load_source(path, CompileConfig(), tmp_path / "out")
    with pytest.raises(InputError, match="gives ids up to 69, but the word embedding has only 60 rows"):
        _load(path, write_tokenizer(tmp_path / "other", size=70))


def test_padding_without_a_row(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    (tokenizer / "tokenizer_config.json").write_text('{"pad_token": "zzz"}')
    with pytest.raises(InputError, match="gives 'zzz' the id 60, but the word embedding has only 60 rows"):
        _load(write_onnx(tmp_path / "model.onnx"), tokenizer)


def test_the_tokenizer_beside_the_file_and_above_a_folder_named_onnx(tmp_path: Path) -> None:
    beside = write_tokenizer(tmp_path / "beside")
    assert load_source(write_onnx(beside / "model.onnx"), CompileConfig(), tmp_path / "out").facts.tokenizer.vocab_size == 60
    shutil.copytree(beside, tmp_path / "above")
    inner = write_onnx(tmp_path / "above" / "onnx" / "model.onnx")
    assert load_source(inner, CompileConfig(), tmp_path / "out").facts.max_length == 24


def test_a_question_needs_two_spans(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"question-answering needs start_logits and end_logits.*Choose another --task"):
        _load(write_onnx(tmp_path / "model.onnx"), write_tokenizer(tmp_path), task="question-answering")


def test_an_unknown_longest_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="longest input of the model is not known"):
        _load(write_onnx(tmp_path / "model.onnx", name="places"), write_tokenizer(tmp_path))
