"""modules.json and the folders it names -> the head behind the encoder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.models import make_checkpoint
from tests.numerics import assert_close
from trtbert.checkpoint.heads import Dense, Normalize, Pooling
from trtbert.checkpoint.modules import encoder_folder, has_pooling, max_seq_length
from trtbert.checkpoint.sentence_transformers import sentence_head
from trtbert.errors import InputError, UnsupportedError


def _modules(folder: Path, *modules: tuple[str, str, dict[str, Any]]) -> Path:
    """(kind, path, config) of each module, as sentence-transformers writes them."""
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path, _) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    for _, path, config in modules:
        (folder / path).mkdir(exist_ok=True, parents=True)
        if config:
            (folder / path / "config.json").write_text(json.dumps(config))
    return folder


ENCODER = ("Transformer", "", {})
POOLING: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "flags": ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, ("mean",)),
    "several flags": (
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True, "pooling_mode_cls_token": True},
        ("cls", "max", "mean"),
    ),
    "no flag": ({"word_embedding_dimension": 48}, ("mean",)),
    "newer": ({"embedding_dimension": 48, "pooling_mode": "lasttoken"}, ("lasttoken",)),
    "newer, several": ({"pooling_mode": ["mean", "mean_sqrt_len_tokens"]}, ("mean", "mean_sqrt_len")),
    "weighted": ({"pooling_mode_weightedmean_tokens": True}, ("weightedmean",)),
}


@pytest.mark.parametrize("name", POOLING)
def test_pooling(name: str, tmp_path: Path) -> None:
    config, modes = POOLING[name]
    folder = _modules(tmp_path, ENCODER, ("Pooling", "1_Pooling", config), ("Normalize", "2_Normalize", {}))
    assert has_pooling(folder)
    assert sentence_head(folder, "auto") == (Pooling(modes), Normalize())  # type: ignore[arg-type]


def test_an_override_keeps_the_other_modules(tmp_path: Path) -> None:
    folder = _modules(tmp_path, ENCODER, ("Pooling", "1_Pooling", {"pooling_mode": "mean"}), ("Normalize", "2_Normalize", {}))
    assert sentence_head(folder, "cls") == (Pooling(("cls",)), Normalize())


def test_without_modules_the_mean_is_not_normalised(tmp_path: Path) -> None:
    assert sentence_head(tmp_path, "auto") == (Pooling(("mean",)),)
    assert not has_pooling(tmp_path)


def test_dense(tmp_path: Path) -> None:
    config = {"in_features": 48, "out_features": 8, "bias": True, "activation_function": "torch.nn.modules.linear.Identity"}
    folder = _modules(tmp_path, ENCODER, ("Pooling", "1_Pooling", {"pooling_mode": "mean"}), ("Dense", "2_Dense", config))
    weight, bias = torch.randn(8, 48), torch.randn(8)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")
    _, dense = sentence_head(folder, "auto")
    assert isinstance(dense, Dense)
    x = np.ones((2, 48))
    assert_close(dense.to_numpy(x, np.ones((2, 3))), x @ weight.numpy().T + bias.numpy())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (("LSTM", "2_LSTM", {}), "'LSTM' is not supported; Transformer, Pooling, Dense, Normalize"),
        (("Dense", "2_Dense", {"activation_function": "torch.nn.modules.activation.Softplus"}), "Dense module in 2_Dense is not supported"),
        (("Dense", "2_Dense", {"use_residual": True}), "without a residual"),
        (("Pooling", "2_Pooling", {"pooling_mode": "attention"}), r"Pooling mode \['attention'\] is not supported"),
    ],
)
def test_unsupported_modules(module: tuple[str, str, dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=message):
        sentence_head(_modules(tmp_path, ENCODER, module), "auto")


def test_a_path_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    folder = _modules(tmp_path / "model", ENCODER, ("Dense", "../other", {"bias": True}))
    with pytest.raises(InputError, match="only paths inside the folder are allowed"):
        sentence_head(folder, "auto")


def test_modules_that_are_no_list(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text('{"0": "Transformer"}')
    with pytest.raises(InputError, match="must be a list of modules"):
        has_pooling(tmp_path)


def test_the_encoder_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = _modules(tmp_path, ("Transformer", "0_Transformer", {}), ("Pooling", "1_Pooling", {"pooling_mode": "cls"}))
    make_checkpoint(folder / "0_Transformer", "bert")
    (folder / "0_Transformer" / "sentence_bert_config.json").write_text('{"max_seq_length": 77}')
    assert encoder_folder(folder) == folder / "0_Transformer"
    assert max_seq_length(encoder_folder(folder)) == 77
    assert max_seq_length(folder) is None
