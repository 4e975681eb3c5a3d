"""A Judge that also says how sure its scores are: the interval of 95 % that the figure of all texts like the examples lies in.

It tells of the choice of the examples and of nothing else: not of labels that are wrong, or of other texts than these.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from trtbert.accuracy import FIDELITY, Judge
from trtbert.data import Example
from trtbert.evaluation import are_right, evaluate
from trtbert.fidelity import Fidelity
from trtbert.package import Interval

_NUM_BLOCKS = 200
"""That examples are scored in for the bootstrap; of fewer examples, each is one."""
_MEAN_METRICS = frozenset({"accuracy", "squad-f1", "squad-em", "ndcg@10"})
_Z = 1.959964
"""Of a normal distribution, 95 % lie within so many standard deviations."""
_NUM_DRAWS = 2000
_LEAST_DIFFERING = 5
"""Scores unlike the commonest, of which a bootstrap says something."""


class BlockJudge(Judge):
    """A Judge that also says how sure its scores are, from the scores of blocks of examples."""

    def intervals(self, model: ir.Model, quantized: ir.Model, int8_score: float) -> dict[str, Interval | None]:
        """Those of package.Budget, for the float `model` and the `quantized` one.

        None where the metric is no mean over examples, or nearly all have the same score, so that little tells how far others may lie.
        """
        is_share = self.metric == "squad-em" or (
            self._facts.task == "text-classification" and (self.metric == "accuracy" or (self.metric == FIDELITY and self._has_one_label))
        )
        is_nearest = self._facts.task == "sentence-similarity" and self.metric == "accuracy"  # each example depends on all others
        if is_share:
            return self._share_intervals(model, quantized, int8_score)
        if is_nearest:
            return {"int8_interval": wilson(int8_score, self.num_examples)}
        if (blocks := self._blocks()) is None:
            return {}
        weights, (float_scores, int8_scores) = [weight for _, weight in blocks], self._scores(blocks, model, quantized)
        drops = [before - after for before, after in zip(float_scores, int8_scores, strict=True)]
        return {"int8_interval": bootstrap(int8_scores, weights), "drop_interval": bootstrap(drops, weights)}

    def _share_intervals(self, model: ir.Model, quantized: ir.Model, int8_score: float) -> dict[str, Interval | None]:
        """Of examples that are each answered right or wrong; the float model is always right where it is the measure itself."""
        share = wilson(int8_score, self.num_examples)
        if self._fidelity is not None:
            return {"int8_interval": share, "drop_interval": Interval(low=100 - share.high, high=100 - share.low, method="wilson")}
        rights = [are_right(self._encoder(one), self._examples, self.metric) for one in (model, quantized)]
        num_lost = sum(before and not after for before, after in zip(*rights, strict=True))
        num_won = sum(after and not before for before, after in zip(*rights, strict=True))
        return {"int8_interval": share, "drop_interval": tango(num_lost, num_won, self.num_examples)}

    @property
    def _has_one_label(self) -> bool:
        return self._facts.activation == "softmax" and self._facts.outputs[0].shape[-1] != 1

    def _blocks(self) -> list[tuple[list[Any], float]] | None:
        """Examples that are scored together, or encodings for fidelity, each with its weight in the whole score; None: it is no mean."""
        if self._fidelity is not None:
            if self._facts.task in ("text-classification", "text-ranking") and self._facts.outputs[0].shape[-1] == 1:
                return None  # a rank correlation
            has_tokens = self._facts.task in ("token-classification", "feature-extraction", "fill-mask")
            return _in_blocks([([encoding], float(len(encoding) if has_tokens else 1)) for encoding in self._fidelity.encodings])
        if self.metric not in _MEAN_METRICS or self._depends_on_all():
            return None
        if self.metric == "ndcg@10":
            queries: dict[str, list[Example]] = {}
            for example in self._examples:
                queries.setdefault(example.text[0], []).append(example)
            return _in_blocks([(documents, 1.0) for documents in queries.values()])
        return _in_blocks([([example], float(len(example.tokens) or 1)) for example in self._examples])

    def _depends_on_all(self) -> bool:
        """Whether it is seen from all examples together how they are answered: with several labels a text, or none, or with no answer."""
        labels = [example.label for example in self._examples]
        if self._facts.task == "text-classification":
            return any(len(label) != 1 for label in labels)
        return self._facts.task == "question-answering" and not all(labels)

    def _scores(self, blocks: Sequence[tuple[list[Any], float]], *models: ir.Model) -> list[list[float]]:
        """Of the float and of the quantised model, in each block."""
        encoders = [self._encoder(model) for model in models]
        if self._fidelity is None:
            return [[evaluate(encoder, examples, self.metric) for examples, _ in blocks] for encoder in encoders]
        return [[100.0] * len(blocks), [Fidelity(encoders[0], encodings).percent(encoders[1]) for encodings, _ in blocks]]


def _in_blocks(units: Sequence[tuple[list[Any], float]]) -> list[tuple[list[Any], float]]:
    """At most _NUM_BLOCKS, each of as many units as fit."""
    size = -(-len(units) // _NUM_BLOCKS)
    groups = [units[start : start + size] for start in range(0, len(units), size)]
    return [([item for items, _ in group for item in items], sum(weight for _, weight in group)) for group in groups]


def wilson(percent: float, num_examples: int) -> Interval:
    """Of a share, in percent, of independent examples: Wilson, "Probable Inference, the Law of Succession", 1927."""
    share, squared = percent / 100, _Z * _Z / num_examples
    centre = (share + squared / 2) / (1 + squared)
    half = _Z / (1 + squared) * math.sqrt(share * (1 - share) / num_examples + squared / (4 * num_examples))
    return Interval(low=100 * max(0.0, centre - half), high=100 * min(1.0, centre + half), method="wilson")


def tango(num_lost: int, num_won: int, num_examples: int) -> Interval:
    """Of the difference of two shares, in percent points, of the same examples, of which the second share has lost some and won others.

    The differences that a score test does not reject: Tango, "Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design", Statistics in Medicine, 1998. With none lost and none won it is Wilson's upper limit of 0, both ways.
    """
    observed = num_lost - num_won

    def is_inside(difference: float) -> bool:
        linear = (2 * num_examples - observed) * difference - num_lost - num_won
        root = math.sqrt(max(0.0, linear * linear + 8 * num_examples * num_won * difference * (1 - difference)))
        won = (root - linear) / (4 * num_examples)  # the likeliest share of those won, if this is the difference
        variance = num_examples * (2 * won + difference * (1 - difference))
        return (observed - num_examples * difference) ** 2 <= _Z * _Z * variance

    def limit(outside: float) -> float:
        inside = observed / num_examples
        for _ in range(50):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if is_inside(middle) else (inside, middle)
        return inside

    return Interval(low=100 * limit(-1.0), high=100 * limit(1.0), method="tango")


def bootstrap(scores: Sequence[float], weights: Sequence[float]) -> Interval | None:
    """Of the weighted mean of `scores`: percentiles of 2000 means of as many scores drawn with replacement, always the same ones.

    None where fewer than _LEAST_DIFFERING scores are unlike the commonest: nearly all means are equal then, and others need not be.
    """
    if len(scores) - Counter(scores).most_common(1)[0][1] < _LEAST_DIFFERING:
        return None
    scores_N, weights_N = np.asarray(scores, float), np.asarray(weights, float)
    drawn_DN = np.random.default_rng(0).integers(0, len(scores_N), (_NUM_DRAWS, len(scores_N)))
    means_D = (scores_N * weights_N)[drawn_DN].sum(1) / weights_N[drawn_DN].sum(1)
    low, high = np.percentile(means_D, (2.5, 97.5))
    return Interval(low=float(low), high=float(high), method="bootstrap")
