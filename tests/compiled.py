"""What a checkpoint answers in plain `transformers`, and what its compiled package answers, on the same feeds.

Legend: B batch, S sequence.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import trtbert
from tests.numerics import assert_close
from trtbert.package import Manifest, ModelFacts
from trtbert.tasks import TASKS
from trtbert.verify import Feeds

PADDINGS = ("none", "right", "left", "holes", "whole row")


def feeds(facts: ModelFacts, batch: int, length: int, padding: str = "none", seed: int = 0) -> Feeds:
    """int32 [B,S] by name; row 0 stays whole, except where padding is "whole row": there it is padding throughout."""
    generator = np.random.default_rng(seed)
    mask_BS = np.ones((batch, length), np.int32)
    for row in range(1, batch):
        num = 1 + row % max(1, length - 1) if length > 1 else 0
        hidden = {"right": slice(length - num, None), "left": slice(num), "holes": slice(1, None, 2)}
        mask_BS[row, hidden.get(padding, slice(0))] = 0
    if padding == "whole row":
        mask_BS[0] = 0
    ids_BS = np.where(mask_BS, generator.integers(5, facts.tokenizer.vocab_size, (batch, length)), facts.tokenizer.pad_token_id)
    types_BS = np.broadcast_to(np.arange(length) >= length // 2, ids_BS.shape)
    arrays = {"input_ids": ids_BS, "attention_mask": mask_BS, "token_type_ids": types_BS}
    return {tensor.name: arrays[tensor.name].astype(np.int32) for tensor in facts.inputs}


class Plain:
    """A checkpoint (or a model) in transformers' own class, eager, with the task's last step in torch."""

    def __init__(self, model: Any, facts: ModelFacts) -> None:
        self.facts = facts
        kind = getattr(transformers, TASKS[facts.task].auto_class)
        self.model = kind.from_pretrained(model, attn_implementation="eager").eval() if isinstance(model, Path) else model
        self.model.config.return_dict = True

    def __call__(self, feeds: Feeds) -> Feeds:
        with torch.inference_mode():
            output = self.model(**{name: torch.from_numpy(array).long() for name, array in feeds.items()})
            answers = self._answers(output, torch.from_numpy(feeds["attention_mask"]))
        return {name: answer.numpy() for name, answer in zip(TASKS[self.facts.task].outputs, answers, strict=True)}

    def _answers(self, output: Any, mask_BS: torch.Tensor) -> tuple[torch.Tensor, ...]:
        task = self.facts.task
        if task == "question-answering":
            return output.start_logits, output.end_logits
        if task == "feature-extraction":
            return (output.last_hidden_state,)
        if task == "sentence-similarity":
            weights = mask_BS.unsqueeze(-1).float()
            mean = (output.last_hidden_state * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return (torch.nn.functional.normalize(mean, dim=-1),)
        is_sigmoid = task == "text-ranking" or self.model.config.problem_type == "multi_label_classification"
        return (torch.sigmoid(output.logits) if is_sigmoid else torch.softmax(output.logits, -1),)


def assert_package_answers_like(plain: Plain, package: Path, cases: Iterable[Feeds]) -> Manifest:
    """Equal at every token that is not padding, and finite everywhere; gives the manifest."""
    predictor = trtbert.load(package)
    num_compared = 0
    for case in cases:
        expected, actual = plain(case), predictor.runtime.run(case)
        assert actual.keys() == expected.keys()
        is_kept_BS = case["attention_mask"] != 0
        for name, array in expected.items():
            assert actual[name].dtype == np.float32 and actual[name].shape == array.shape
            assert np.isfinite(actual[name]).all()
            is_kept = is_kept_BS if array.shape[:2] == is_kept_BS.shape else is_kept_BS.any(1)
            assert_close(actual[name][is_kept], array[is_kept])
            num_compared += int(is_kept.sum())
    assert num_compared > 0
    return predictor.manifest
