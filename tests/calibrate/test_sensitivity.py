"""What each part costs, and how few of them go back to float for a budget."""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
import pytest

from tests.builders.fused import Encoder, feeds, fused_encoder
from trtbert.calibrate import Budget, Cost, calibrate, fit_budget, measure_costs
from trtbert.calibrate.gemms import find_gemms
from trtbert.calibrate.trials import Judge

BATCHES = [feeds(3, 17, seed) for seed in range(10)]
FRAGILE = ("layer 0 ffn down", "layer 1 attention output", "layer 1 ffn down")


def with_fragile(label: str) -> ir.Model:
    """Two columns of the input of that GEMM are 300 times as large, and its weights for them 300 times as small."""
    model = fused_encoder(Encoder())
    gemms = find_gemms(model.graph)
    index = [gemm.label for gemm in gemms].index(label)
    producer, fragile = gemms[index - 1], gemms[index]
    behind = next(iter(producer.node.outputs[0].consumers()))
    bias = next(value for value in behind.inputs if value is not None and value.const_value is not None)
    for value, where, factor in (
        (producer.weight, (slice(None), slice(-2, None)), 300.0),
        (bias, (slice(-2, None),), 300.0),
        (fragile.weight, (slice(-2, None), slice(None)), 1 / 300.0),
    ):
        assert value.const_value is not None
        array = value.const_value.numpy().copy()
        array[where] *= factor
        value.const_value = ir.tensor(array, name=value.name)
    return model


@pytest.mark.parametrize("label", FRAGILE)
def test_the_fragile_gemm_costs_most(label: str) -> None:
    model = with_fragile(label)
    found = calibrate(model, lambda: BATCHES[3:], BATCHES[:3], method="minmax", quantize="linear", smooth=False, has_int8_embeddings=True)
    costs = measure_costs(found, BATCHES[:3])
    assert {(cost.key, cost.label) for cost in costs} == {(part.key, part.label) for part in found.parts}
    errors = [cost.error for cost in costs]
    assert errors == sorted(errors, reverse=True)
    assert costs[0].label == label
    assert errors[0] > 20 * errors[1]
    assert errors[0] == pytest.approx(Judge(model, BATCHES[:3]).error(found.model({costs[0].key})))


COSTS = tuple(Cost(key=f"part {i}", label=f"layer {i}", error=1.0 / (i + 1)) for i in range(20))


class Score:
    """99 with the `needed` most costly parts in float, else 90; remembers how many were in float each time it was asked."""

    def __init__(self, needed: int, costs: Collection[Cost]) -> None:
        self.needed, self.keys = needed, [cost.key for cost in costs]
        self.tried: list[int] = []

    def __call__(self, kept: Collection[str]) -> float:
        self.tried.append(len(self.keys) - len(kept))
        return 90.0 if set(self.keys[: self.needed]) & set(kept) else 99.0


@pytest.mark.parametrize(
    "num_costs,needed,tried",
    [
        (20, 0, [0]),
        (20, 1, [0, 1]),
        (20, 2, [0, 1, 2]),
        (20, 3, [0, 1, 2, 4, 3]),
        (20, 4, [0, 1, 2, 4, 3]),
        (20, 5, [0, 1, 2, 4, 8, 6, 5]),
        (20, 7, [0, 1, 2, 4, 8, 6, 7]),
        (20, 11, [0, 1, 2, 4, 8, 16, 12, 10, 11]),
        (20, 17, [0, 1, 2, 4, 8, 16, 19, 17]),
        (20, 19, [0, 1, 2, 4, 8, 16, 19, 17, 18]),
        (5, 4, [0, 1, 2, 4, 3]),
        (3, 2, [0, 1, 2]),
        (1, 0, [0]),
    ],
)
def test_as_few_as_needed_go_back_to_float(num_costs: int, needed: int, tried: list[int]) -> None:
    costs = COSTS[:num_costs]
    score = Score(needed, costs)
    assert fit_budget(costs, score, least=98.0) == Budget(reverted=tuple(cost.key for cost in costs[:needed]), score=99.0)
    again = [needed - 1] * needed if needed > 1 else []
    assert score.tried == tried + again


def test_what_is_not_needed_in_float_goes_back_to_int8() -> None:
    needed = {"part 0", "part 3"}
    found = fit_budget(COSTS, lambda kept: 90.0 if needed & set(kept) else 99.0, least=98.0)
    assert found == Budget(reverted=("part 0", "part 3"), score=99.0)


@pytest.mark.parametrize("num_costs,tried", [(20, [0, 1, 2, 4, 8, 16, 19]), (5, [0, 1, 2, 4]), (4, [0, 1, 2, 3]), (2, [0, 1]), (1, [0])])
def test_a_budget_that_only_a_float_model_meets_is_not_met(num_costs: int, tried: list[int]) -> None:
    costs = COSTS[:num_costs]
    score = Score(num_costs, costs)
    assert fit_budget(costs, score, least=98.0) is None
    assert score.tried == tried


def test_a_score_at_the_least_is_enough() -> None:
    assert fit_budget(COSTS, lambda kept: 98.0, least=98.0) == Budget(reverted=(), score=98.0)


@pytest.mark.parametrize("label", FRAGILE)
def test_a_budget_reverts_just_the_fragile_gemm(label: str) -> None:
    model = with_fragile(label)
    found = calibrate(model, lambda: BATCHES[3:], BATCHES[:3], method="minmax", quantize="linear", smooth=False, has_int8_embeddings=False)
    costs = measure_costs(found, BATCHES[:3])
    judge = Judge(model, BATCHES[:3])
    budget = fit_budget(costs, lambda kept: -judge.error(found.model(kept)), least=-2 * sum(cost.error for cost in costs[1:]))
    assert budget is not None
    assert [cost.label for cost in costs if cost.key in budget.reverted] == [label]
    assert np.isclose(-budget.score, judge.error(found.model([cost.key for cost in costs[1:]])))
