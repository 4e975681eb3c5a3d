"""What a user can hand over that is broken, foreign or dangerous: one message each, and nothing run or written."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import make_checkpoint
from trtbert.checkpoint.hf_config import read_config
from trtbert.checkpoint.read import read_checkpoint
from trtbert.checkpoint.torch_model import load_model
from trtbert.checkpoint.weights import read_weights
from trtbert.config import CompileConfig
from trtbert.errors import InputError, TrtbertError, UnsupportedError
from trtbert.export import find_source, load_source
from trtbert.tasks import Task


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("whole"), "bert")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _edit_config(folder: Path, **changes: Any) -> None:
    _edit(folder / "config.json", **changes)


def _replace(name: str, make: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda folder: ((folder / name).unlink(), make(folder / name))


def _change_weight(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], Any]:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights |= {QUERY: change(weights[QUERY])}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


QUERY = "encoder.layer.0.attention.self.query.weight"


def _write(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def _remove(*names: str) -> Callable[[Path], Any]:
    return lambda folder: [(folder / name).unlink() for name in names]


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def _with_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"][3, 4] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _shard_outside(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other/model.safetensors"}}))


def _shard_with_a_long_name(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "x" * 300}}))


def _empty_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("")


def _no_row_for(token: str) -> Callable[[Path], Any]:
    return lambda folder: _edit(folder / "tokenizer_config.json", **{token: "zzz"})


def _larger_tokenizer(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {f"zz{i}": 320 + i for i in range(5)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def _no_padding_token(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text().replace("[PAD]", "[HUG]"))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "PreTrainedTokenizerFast"}))


_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (_remove("config.json"), "config.json does not exist"),
    "config is no JSON": (_write("config.json", b'{"model_type": '), "config.json is not valid JSON"),
    "config is binary": (_write("config.json", b"\xff\xfe\x00"), "config.json is not valid JSON"),
    "config is a list": (_write("config.json", b"[]"), "must hold a JSON object, got a list"),
    "config is nested": (_write("config.json", b"[" * 100_000), "config.json is nested too deeply"),
    "config is a pipe": (_replace("config.json", os.mkfifo), "config.json is not a plain file"),
    "reranker's config is a list": (_write("config_sentence_transformers.json", b"[]"), "must hold a JSON object, got a list"),
    "no weights": (_remove("model.safetensors"), "holds no weights: one of model.safetensors"),
    "truncated weights": (_truncate, "is not a whole safetensors file"),
    "empty weights": (_write("model.safetensors", b""), "is not a whole safetensors file"),
    "weights are a folder": (_replace("model.safetensors", Path.mkdir), "model.safetensors is a folder, not a plain file"),
    "weights are a pipe": (_replace("model.safetensors", os.mkfifo), "holds what is no plain file: model.safetensors"),
    "weights are a dead link": (
        _replace("model.safetensors", lambda path: path.symlink_to("gone")),
        "model.safetensors is a link to 'gone', where no file is",
    ),
    "flat tensor": (
        _change_weight(lambda w: w.flatten()),
        r"query.weight is \(2304,\) in the file, where 2 dimensions .* packed or flattened",
    ),
    "LFS pointer": (_write("model.safetensors", _POINTER), "is a Git LFS pointer"),
    "NaN": (_with_nan, "'encoder.layer.0.output.dense.weight'.* holds 1 NaN or infinite values"),
    "missing shard": (_missing_shard, "2 of 2 shards that model.safetensors.index.json names are missing"),
    "shard outside": (_shard_outside, "names shards outside its folder"),
    "shard with a long name": (_shard_with_a_long_name, "1 of 1 shards .* are missing: xxx"),
    "no tokenizer": (_remove("tokenizer.json"), "holds no tokenizer: one of tokenizer.json, vocab.txt"),
    "broken tokenizer": (_write("tokenizer.json", b'{"model": 3}'), "The tokenizer in .* cannot be read"),
    "larger tokenizer": (_larger_tokenizer, "gives ids up to 324, but the word embedding has only 320 rows"),
    "empty vocabulary": (
        _empty_vocabulary,
        "cannot read an unknown word: .*Missing .UNK. .*. Copy the whole vocabulary, or name .* unk_token",
    ),
    "padding without a row": (
        _no_row_for("pad_token"),
        "gives 'zzz' the id 320, but the word embedding has only 320 rows. Name a token of",
    ),
    "first token without a row": (_no_row_for("cls_token"), "gives 'zzz' the id 320, but the word embedding has only 320 rows"),
    "tokenizer config is a list": (_write("tokenizer_config.json", b"[]"), "tokenizer_config.json must hold a JSON object, got a list"),
    "tokenizer config is a text": (_write("tokenizer_config.json", b'"a"'), "tokenizer_config.json must hold a JSON object, got a str"),
    "surrogate in the tokenizer config": (
        lambda f: _edit(f / "tokenizer_config.json", pad_token="\ud800"),
        r"tokenizer_config.json holds '\\ud800', a lone surrogate, which is no character. Write the whole character",
    ),
    "surrogate in a label": (lambda f: _edit_config(f, id2label={"0": "\ud800"}), r"config.json holds '\\ud800', a lone surrogate"),
    "length is a word": (lambda f: _edit(f / "tokenizer_config.json", model_max_length="abc"), "must be a number of tokens, got 'abc'"),
    "length is negative": (lambda f: _edit(f / "tokenizer_config.json", model_max_length=-5), "model_max_length .* allows -5 tokens"),
    "length is two": (lambda f: _edit(f / "tokenizer_config.json", model_max_length=2), "allows 2 tokens; at least 3 are needed"),
    "no padding token": (_no_padding_token, "has no padding token"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file(name: str, folder: Path, tmp_path: Path) -> None:
    spoil, message = BAD[name]
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_source(folder, CompileConfig(), tmp_path / "out")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_padding_without_a_row_is_told_before_any_training(folder: Path) -> None:
    _edit(folder / "tokenizer_config.json", pad_token="zzz")
    with pytest.raises(InputError, match="gives 'zzz' the id 320"):
        read_checkpoint(folder)


VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "hidden size in words": ({"hidden_size": "large"}, "hidden_size must be a whole number from 1 to 16777216, got 'large'"),
    "no hidden size": ({"hidden_size": 0}, "hidden_size must be .*, got 0"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads must be .*, got 0"),
    "seven heads": ({"num_attention_heads": 7}, "hidden_size 48 must be a multiple of num_attention_heads, got 7"),
    "negative heads": ({"num_attention_heads": -3}, "num_attention_heads must be .*, got -3"),
    "no vocabulary": ({"vocab_size": 0}, "vocab_size must be .*, got 0"),
    "huge vocabulary": ({"vocab_size": 10**12}, "vocab_size must be .*, got 1000000000000"),
    "large vocabulary": (
        {"vocab_size": 2**24},
        r"word_embeddings.weight is \(320, 48\) in the file, but .*\(16777216, 48\). Correct vocab_size",
    ),
    "huge depth": ({"num_hidden_layers": 100_000}, "num_hidden_layers must be a whole number from 1 to 1000"),
    "large depth": ({"num_hidden_layers": 1000}, "num_hidden_layers is 1000, but the file holds 2 layers"),
    "no positions": ({"max_position_embeddings": None}, "max_position_embeddings must be .*, got None"),
    "padding id": ({"pad_token_id": 999_999}, "pad_token_id must be an id of the vocabulary, from 0 to 319, or null, got 999999"),
    "activation": ({"hidden_act": "nonsense"}, "hidden_act must be one of .*gelu.*, got 'nonsense'"),
    "epsilon": ({"layer_norm_eps": -1.0}, "layer_norm_eps must be a number from 0 to 1, got -1.0"),
    "model type": ({"model_type": ["bert"]}, r"model_type must be a name, got \['bert'\]"),
    "architecture": ({"architectures": "BertLMHeadModel"}, "architectures must be a list of names, got 'BertLMHeadModel'"),
    "architecture names": ({"architectures": [3]}, r"architectures must be a list of names, got \[3\]"),
    "labels": ({"id2label": ["a"]}, r"id2label must be an object of names by number, got \['a'\]"),
    "label without a name": (
        {"id2label": {"0": "a", "1": None}},
        'id2label must name every label, as in {"0": "no", "1": "yes"}, got None',
    ),
    "problem": (
        {"problem_type": "x"},
        "problem_type must be one of regression, single_label_classification, multi_label_classification, or null, got 'x'",
    ),
    "pruned layer": ({"pruned_heads": {"0": [], "9": [0]}}, "pruned_heads must name layers of the model, from 0 to 1, got 9"),
    "pruned heads": ({"pruned_heads": {"0": 3}}, "pruned_heads must name lists of heads by layer, got {'0': 3}"),
    "two values": ({"vocab_size": 0, "hidden_act": 3}, "vocab_size must be .*, got 0; hidden_act must be .*, got 3"),
}


@pytest.mark.parametrize("name", VALUES)
def test_wrong_value_in_config(name: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    changes, message = VALUES[name]
    _edit_config(folder, **changes)
    with pytest.raises(InputError, match=message):
        load_source(folder, CompileConfig(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert capfd.readouterr() == ("", "")


def test_a_family_with_names_of_its_own(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, "distilbert")
    _edit_config(folder, n_heads=7)
    with pytest.raises(InputError, match="dim 48 must be a multiple of n_heads, got 7"):
        load_source(folder, CompileConfig(), tmp_path / "out")
    _edit_config(folder, n_heads=3, n_layers=4)
    with pytest.raises(InputError, match=r"n_layers is 4, but the file holds 2 layers. Set n_layers in config.json to 2"):
        load_source(folder, CompileConfig(), tmp_path / "out")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(dtype: torch.dtype, folder: Path, tmp_path: Path) -> None:
    _change_weight(lambda w: w.to(dtype))(folder)
    with pytest.raises(UnsupportedError, match=rf"already quantised: 1 .*\({QUERY} is {str(dtype)[6:]}\)"):
        load_source(folder, CompileConfig(), tmp_path / "out")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_read_as_float32(dtype: torch.dtype, folder: Path) -> None:
    weights = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    position_ids = {"embeddings.position_ids": torch.arange(130)[None]}
    save_file(weights | position_ids, folder / "model.safetensors", metadata={"format": "pt"})
    _edit_config(folder, dtype=str(dtype)[6:])
    model = load_model(read_config(folder), "feature-extraction", read_weights(folder).state)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.get_parameter(QUERY), weights[QUERY].float())


def test_an_attention_of_its_own_is_not_asked_for(folder: Path) -> None:
    _edit_config(folder, attn_implementation="flash_attention_2", _attn_implementation="flash_attention_2")
    model = load_model(read_config(folder), "feature-extraction", read_weights(folder).state)
    assert model.config._attn_implementation == "sdpa"


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_malicious_pickle_is_never_run(is_zip: bool, folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    payload = {"weight": torch.zeros(2), "run": _Payload(tmp_path / "was_run")}
    if is_zip:
        torch.save(payload, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(payload))
    with pytest.raises(InputError, match=r"was refused, and nothing in it was run.*Convert the checkpoint to safetensors"):
        load_source(folder, CompileConfig(), tmp_path / "out")
    assert not (tmp_path / "was_run").exists() and not (tmp_path / "out").exists()


def test_plain_tensors_in_a_pickle_are_read(folder: Path) -> None:
    expected = read_weights(folder).state
    torch.save(dict(expected), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    actual = read_weights(folder).state
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gpt2": ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, r"'gpt2' \(GPT2LMHeadModel\) is not supported; choose .*bert"),
    "t5": ({"model_type": "t5"}, "'t5'"),
    "vision": ({"model_type": "vit"}, "'vit'"),
    "no model type": ({"model_type": None}, "None"),
    "own code": ({"model_type": "nomic_bert", "auto_map": {"AutoModel": "modeling.X"}}, r"Its own Python code \(auto_map\) is never run"),
    "decoder": ({"is_decoder": True}, "is a decoder"),
    "causal head": ({"architectures": ["BertLMHeadModel"]}, "is a decoder .BertLMHeadModel"),
    "cross attention": ({"add_cross_attention": True}, "is a decoder"),
    "quantised": ({"quantization_config": {"quant_method": "bitsandbytes"}}, "already quantised"),
    "relative positions": ({"position_embedding_type": "relative_key"}, "'relative_key' is not supported, only 'absolute'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_model(name: str, folder: Path, tmp_path: Path) -> None:
    changes, message = REFUSED[name]
    _edit_config(folder, **changes)
    with pytest.raises(UnsupportedError, match=message) as caught:
        load_source(folder, CompileConfig(), tmp_path / "out")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_code_beside_a_supported_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')")
    _edit_config(folder, auto_map={"AutoConfig": "modeling.X", "AutoModel": "modeling.X"})
    assert type(read_config(folder)).__name__ == "BertConfig"
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(("task", "tensor"), [("text-classification", "classifier.bias"), ("question-answering", "qa_outputs.weight")])
def test_a_task_without_its_head(task: Task, tensor: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"lacks .* tensors that {task} needs: .*{tensor}.*--task"):
        load_source(folder, CompileConfig(task=task), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["no-such-model", "someone/no-such-model"])
def test_a_name_that_is_nowhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"{name} is no folder here, and it could not be fetched"):
        find_source(Path(name))


def test_a_path_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist. Give a Hugging Face model folder"):
        find_source(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(TrtbertError, match=r"neither a folder nor an .onnx file"):
        find_source(tmp_path / "notes.txt")
