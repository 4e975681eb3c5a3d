"""Checkpoints of every family and task: the exported graph against torch, and the facts that go with it."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tests.export.conftest import TASK_OF
from tests.export.running import assert_graph_equals_reference, batches
from tests.models import LABELS
from tests.numerics import assert_close
from trtbert.architectures import ARCHITECTURES, STUDENT
from trtbert.export import Source

Exported = Callable[[str], tuple[Path, Source]]


def test_every_family_has_a_test() -> None:
    assert TASK_OF.keys() == ARCHITECTURES.keys() - {STUDENT}


@pytest.mark.parametrize("architecture", TASK_OF)
def test_the_graph_equals_the_checkpoint(architecture: str, export_family: Exported) -> None:
    _, source = export_family(architecture)
    assert source.facts.architecture == architecture
    assert source.facts.task == TASK_OF[architecture]
    assert_graph_equals_reference(source, vocabulary_size=source.facts.tokenizer.vocab_size)


@pytest.mark.parametrize("architecture", sorted(name for name, facts in ARCHITECTURES.items() if facts.has_sdpa))
def test_sdpa_gives_one_attention_node_per_layer(architecture: str, export_family: Exported) -> None:
    _, source = export_family(architecture)
    assert Counter(node.op_type for node in source.model.graph)["Attention"] == source.facts.num_layers == 2


def test_the_reference_is_the_plain_model(export_family: Exported) -> None:
    """Not what the export made of it: transformers' own class, and torch's softmax."""
    folder, source = export_family("bert")
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for feeds in batches(source.facts, vocabulary_size=60):
        with torch.inference_mode():
            logits = plain(**{name: torch.from_numpy(value) for name, value in feeds.items()}).logits
        assert_close(source.reference(feeds)["scores"], torch.softmax(logits, -1).numpy())


def test_the_reference_is_without_dropout(export_family: Exported) -> None:
    _, source = export_family("bert")
    feeds = list(batches(source.facts, vocabulary_size=60))[1]
    assert np.array_equal(source.reference(feeds)["scores"], source.reference(feeds)["scores"])


def test_sentence_embeddings_are_pooled_and_normalised(export_family: Exported) -> None:
    folder, source = export_family("mpnet")
    plain = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    feeds = list(batches(source.facts, vocabulary_size=60))[1]
    with torch.inference_mode():
        hidden = plain(**{name: torch.from_numpy(value) for name, value in feeds.items()}).last_hidden_state.numpy()
    mean = np.stack([h[m != 0].mean(0) for h, m in zip(hidden, feeds["attention_mask"], strict=True)])
    assert_close(source.reference(feeds)["sentence_embedding"], mean / np.linalg.norm(mean, axis=1, keepdims=True))


def test_facts(export_family: Exported) -> None:
    _, source = export_family("bert")
    assert source.facts.labels == LABELS["text-classification"]
    assert (source.facts.activation, source.facts.max_length, source.facts.num_layers) == ("softmax", 130, 2)
    assert [t.name for t in source.facts.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert source.model.metadata_props["task"] == "text-classification"
    assert json.loads(source.model.metadata_props["labels"]) == list(LABELS["text-classification"])
    assert source.fingerprint["transformers"] == transformers.__version__
    assert len(source.fingerprint["sha256"]) == 64


def test_roberta_counts_positions_from_the_padding_id(export_family: Exported) -> None:
    _, source = export_family("roberta")
    assert source.facts.max_length == 128
    assert source.facts.activation == "sigmoid"
    assert [t.name for t in source.facts.inputs] == ["input_ids", "attention_mask"]


@pytest.mark.parametrize("architecture", TASK_OF)
def test_tokenizer_json_tokenizes_as_transformers_does(architecture: str, export_family: Exported) -> None:
    import tokenizers

    folder, source = export_family(architecture)
    ours = tokenizers.Tokenizer.from_file(str(folder / "out" / source.facts.tokenizer.file))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert ours.padding is None and ours.truncation is None
    assert ours.get_vocab_size() == source.facts.tokenizer.vocab_size
    for text in ("The museum opens at nine.", "  Lisbon & Toronto, 37 geese! ", ""):
        assert ours.encode(text).ids == theirs(text)["input_ids"]
    assert ours.encode("one", "two").ids == theirs("one", "two")["input_ids"]
    assert source.facts.tokenizer.pad_token_id == theirs.pad_token_id
    assert (folder / "out" / "config.json").is_file()
