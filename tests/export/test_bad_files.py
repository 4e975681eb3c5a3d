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
from trtbert.config import CompileConfig
from trtbert.errors import InputError, TrtbertError, UnsupportedError
from trtbert.export import load_source
from trtbert.tasks import Task


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("whole"), "bert")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


def _edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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
    "wrong value in config": (lambda f: _edit_config(f, hidden_size="large"), "is not a valid bert config"),
    "no weights": (_remove("model.safetensors"), "holds no weights: one of model.safetensors"),
    "truncated weights": (_truncate, "is not a whole safetensors file"),
    "empty weights": (_write("model.safetensors", b""), "is not a whole safetensors file"),
    "LFS pointer": (_write("model.safetensors", _POINTER), "is a Git LFS pointer"),
    "NaN": (_with_nan, "'encoder.layer.0.output.dense.weight'.* holds 1 NaN or infinite values"),
    "missing shard": (_missing_shard, "2 of 2 shards that model.safetensors.index.json names are missing"),
    "shard outside": (_shard_outside, "names shards outside its folder"),
    "no tokenizer": (_remove("tokenizer.json"), "holds no tokenizer: one of tokenizer.json, vocab.txt"),
    "broken tokenizer": (_write("tokenizer.json", b'{"model": 3}'), "The tokenizer in .* cannot be read"),
    "larger tokenizer": (_larger_tokenizer, "gives ids up to 324, but the word embedding has only 320 rows"),
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
    from trtbert.export.weights import read_weights

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
    from trtbert.export.hf_config import read_config

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
        load_source(Path(name), CompileConfig(), tmp_path / "out")


def test_a_path_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist. Give a Hugging Face model folder"):
        load_source(tmp_path / "nothing", CompileConfig(), tmp_path / "out")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(TrtbertError, match=r"neither a folder nor an .onnx file"):
        load_source(tmp_path / "notes.txt", CompileConfig(), tmp_path / "out")
