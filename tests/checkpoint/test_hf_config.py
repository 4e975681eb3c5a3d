"""What config.json decides: task, activation, labels, longest input."""

from typing import Any

import pytest
import torch
from transformers import BertConfig
from transformers.loss.loss_utils import ForSequenceClassificationLoss

from trtbert.checkpoint.hf_config import activation_of, choose_task, labels_of, layer_number, max_positions, problem_of
from trtbert.tasks import Task

IDENTITY = {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}
ACTIVATIONS: list[tuple[Task, dict[str, Any], int, str]] = [
    ("text-classification", {}, 2, "softmax"),
    ("text-classification", {}, 1, "sigmoid"),
    ("text-classification", {"problem_type": "single_label_classification"}, 3, "softmax"),
    ("text-classification", {"problem_type": "multi_label_classification"}, 3, "sigmoid"),
    ("text-classification", {"problem_type": "regression"}, 1, "none"),
    ("token-classification", {"problem_type": "regression"}, 5, "softmax"),
    ("text-ranking", {}, 1, "sigmoid"),
    ("text-ranking", {"problem_type": "regression"}, 1, "sigmoid"),
    ("text-ranking", {}, 2, "softmax"),
    ("text-ranking", IDENTITY, 1, "none"),
    ("text-ranking", {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"}, 2, "sigmoid"),
    ("text-classification", IDENTITY, 1, "sigmoid"),
    ("fill-mask", {}, 300, "softmax"),
    ("question-answering", {}, 0, "none"),
    ("sentence-similarity", {}, 48, "none"),
]


@pytest.mark.parametrize(("task", "options", "num_labels", "expected"), ACTIVATIONS)
def test_activation(task: Task, options: dict[str, Any], num_labels: int, expected: str) -> None:
    assert activation_of(task, options, num_labels) == expected


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("BertForSequenceClassification", "text-classification"),
        ("RobertaForTokenClassification", "token-classification"),
        ("DistilBertForQuestionAnswering", "question-answering"),
        ("XLMRobertaForMaskedLM", "fill-mask"),
        ("BertModel", "feature-extraction"),
        ("BertForPreTraining", "feature-extraction"),
    ],
)
def test_task(architecture: str, expected: str) -> None:
    assert choose_task([architecture], has_pooling=False, is_cross_encoder=False) == expected
    assert choose_task([architecture], has_pooling=True, is_cross_encoder=False) == "sentence-similarity"
    assert choose_task([architecture], has_pooling=False, is_cross_encoder=True) == "text-ranking"


@pytest.mark.parametrize("problem", [None, "regression", "multi_label_classification"])
@pytest.mark.parametrize("num_labels", [1, 3])
def test_the_problem_is_what_transformers_trains_for(num_labels: int, problem: str | None) -> None:
    """Whose loss writes it into the config."""
    config = BertConfig(num_labels=num_labels, problem_type=problem)
    expected = problem_of(config)
    labels = torch.zeros(2, dtype=torch.long) if expected == "single_label_classification" else torch.zeros(2, num_labels)
    ForSequenceClassificationLoss(labels, torch.zeros(2, num_labels), config)
    assert config.problem_type == expected


def test_labels_come_by_number() -> None:
    assert labels_of({"id2label": {"10": "k", "2": "c", "0": "a", "1": "b"}}, 3) == ("a", "b", "c")
    assert labels_of({}, 2) == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 0}, 513),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 0}, 512),
        ({"model_type": "bert"}, None),
    ],
)
def test_longest_input(options: dict[str, Any], expected: int | None) -> None:
    assert max_positions(options) == expected


def test_the_layer_in_a_name() -> None:
    assert layer_number("bert.encoder.layer.11.output.dense.weight") == 11
    assert layer_number("model.layers.3.mlp.Wi.weight") == 3
    assert layer_number("embeddings.LayerNorm.weight") is None
