"""The tiny checkpoints load as a user's do, answer with finite and varied numbers, and tokenize English with few unknowns."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer

from tests.models import LABELS, make_checkpoint, mask_checkpoint, prune_checkpoint
from tests.tiny_tokenizers import FAMILIES, SENTENCES
from trtbert.architectures import ARCHITECTURES, STUDENT
from trtbert.tasks import TASKS, Task

TEXTS = ["The river was cold, but the children loved it.", "Lisbon?", SENTENCES[3]]


def answers(folder: Path, task: Task = "feature-extraction") -> torch.Tensor:
    """First output of the checkpoint for TEXTS."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model, info = getattr(transformers, TASKS[task].auto_class).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.inference_mode():
        return model(**tokenizer(TEXTS, padding=True, return_tensors="pt"))[0]


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES.keys() - {STUDENT}))
def test_checkpoint_answers(tmp_path: Path, architecture: str) -> None:
    hidden_BSD = answers(make_checkpoint(tmp_path, architecture))
    assert hidden_BSD.shape[0] == len(TEXTS) and hidden_BSD.shape[2] == 48
    assert hidden_BSD.isfinite().all() and hidden_BSD.std(0).min() > 0 and 0.1 < hidden_BSD.std() < 10


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES.keys() - {STUDENT}))
def test_tokenizer_is_the_one_in_the_file(tmp_path: Path, architecture: str) -> None:
    make_checkpoint(tmp_path, architecture)
    tokenizer, family = Tokenizer.from_file(str(tmp_path / "tokenizer.json")), FAMILIES[architecture]
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, *SENTENCES]:
        ids = tokenizer.encode(text).ids
        assert loaded(text)["input_ids"] == ids
        assert tokenizer.token_to_id(family.roles["unk"]) not in ids and len(ids) < 100
    pair = tokenizer.encode("Who?", "A young engineer.")
    assert loaded("Who?", "A young engineer.")["input_ids"] == pair.ids
    assert max(pair.type_ids) == int(family.has_token_type_ids)
    assert ("token_type_ids" in loaded("Who?")) == family.has_token_type_ids


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task(tmp_path: Path, task: Task) -> None:
    folder = make_checkpoint(tmp_path, "bert", task=task)
    assert answers(folder, task).isfinite().all()
    assert (folder / "modules.json").exists() == (task == "sentence-similarity")
    if task in LABELS:
        assert tuple(transformers.AutoConfig.from_pretrained(folder).id2label.values()) == LABELS[task]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "distilbert", "mpnet"])
def test_pruned_checkpoint_has_a_masked_twin(tmp_path: Path, architecture: str) -> None:
    folder = make_checkpoint(tmp_path / "full", architecture)
    heads = {0: [1], 1: [1]} if architecture == "mpnet" else {0: [1], 1: [0, 2]}
    pruned = prune_checkpoint(folder, tmp_path / "pruned", heads, {1: 24})
    masked = mask_checkpoint(folder, tmp_path / "masked", heads, {1: 24})
    sizes = [(path / "model.safetensors").stat().st_size for path in (folder, masked, pruned)]
    assert sizes[0] == sizes[1] > sizes[2]
    assert (pruned / "config.json").read_text() == (folder / "config.json").read_text()
    expected_BSD = answers(masked)
    assert not torch.allclose(expected_BSD, answers(folder), atol=1e-2)
    assert torch.allclose(pruned_answers(folder, pruned), expected_BSD, atol=1e-5)


def pruned_answers(folder: Path, pruned: Path) -> torch.Tensor:
    """The unpruned model with every changed module cut to the shapes of the pruned weights."""
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
    weights = load_file(pruned / "model.safetensors")
    for name, module in model.named_modules():
        if f"{name}.weight" in weights:
            module.weight = torch.nn.Parameter(weights[f"{name}.weight"])
        if f"{name}.bias" in weights:
            module.bias = torch.nn.Parameter(weights[f"{name}.bias"])
        if name.endswith("attention.attn"):  # Only MPNet counts its heads by an attribute.
            module.num_attention_heads = weights[f"{name}.q.weight"].shape[0] // module.attention_head_size
            module.all_head_size = weights[f"{name}.q.weight"].shape[0]
    with torch.inference_mode():
        return model(**transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt"))[0]
