"""Stage `compress`: a Hugging Face model -> a smaller one that computes nearly the same."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trtbert.compress.budget import BudgetOptions, prune_to_budget
from trtbert.compress.depth import DepthOptions, select_depth
from trtbert.compress.distill import DistillOptions, distill
from trtbert.compress.finetune import FinetuneOptions, finetune
from trtbert.compress.l0 import L0Options, prune_l0
from trtbert.compress.magnitude import MagnitudeOptions, prune_magnitude
from trtbert.compress.method import Job, Options, Result
from trtbert.compress.prune import FfnOptions, HeadsOptions, prune_ffn, prune_heads
from trtbert.compress.replace import ReplaceOptions, replace_layers
from trtbert.compress.students import StudentOptions, student
from trtbert.compress.vocabulary import VocabularyOptions, prune_vocabulary


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of compression."""

    summary: str
    options: type[Options]
    run: Callable[[Job, Any], Result]
    is_trained: bool = False
    """Whether it has the options of training."""
    has_teacher: bool = False
    needs_layers: bool = False
    """Whether it works on transformer layers, which a student has none of."""


METHODS: dict[str, Method] = {
    "heads": Method(summary="remove the attention heads that matter least", options=HeadsOptions, run=prune_heads, needs_layers=True),
    "ffn": Method(summary="remove the FFN neurons that matter least", options=FfnOptions, run=prune_ffn, needs_layers=True),
    "budget": Method(
        summary="remove heads and neurons down to a budget, without training", options=BudgetOptions, run=prune_to_budget, needs_layers=True
    ),
    "l0": Method(
        summary="learn with gates what to keep", options=L0Options, run=prune_l0, is_trained=True, has_teacher=True, needs_layers=True
    ),
    "magnitude": Method(
        summary="set the smallest weights to zero", options=MagnitudeOptions, run=prune_magnitude, is_trained=True, needs_layers=True
    ),
    "vocabulary": Method(summary="drop the tokens that the texts do not use", options=VocabularyOptions, run=prune_vocabulary),
    "depth": Method(summary="keep some of the layers", options=DepthOptions, run=select_depth, is_trained=True, needs_layers=True),
    "distill": Method(summary="learn from a teacher", options=DistillOptions, run=distill, is_trained=True, has_teacher=True),
    "finetune": Method(summary="train on labelled examples", options=FinetuneOptions, run=finetune, is_trained=True),
    "student": Method(
        summary="train a BiLSTM or CNN-BiLSTM of the same tokenizer", options=StudentOptions, run=student, is_trained=True, has_teacher=True
    ),
    "replace": Method(
        summary="train one layer in the place of several", options=ReplaceOptions, run=replace_layers, is_trained=True, needs_layers=True
    ),
}
