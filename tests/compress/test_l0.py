"""Hard-concrete gates by their formulas, and method `l0`: the target, what is cut, and what is learnt."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.compress.models import classified, tiny
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.compress.attention import grouped_model
from trtbert.compress.batches import collate, encode_texts
from trtbert.compress.hard_concrete import BETA, GAMMA, MAX_LOG_ALPHA, MIN_LOG_ALPHA, ZETA, HardConcrete
from trtbert.compress.l0 import L0Options, LayerGates, _cut, prune_l0, target_at
from trtbert.compress.layers import encoder_layers
from trtbert.compress.method import Job
from trtbert.compress.training import STATE
from trtbert.config import TrainingConfig
from trtbert.data import Example
from trtbert.errors import InputError, TrainingError, UnsupportedError

TEXTS = ["The museum opens at nine.", "Heavy rain", "red cat"]


def gate_of(*log_alpha: float) -> HardConcrete:
    gate = HardConcrete(len(log_alpha))
    with torch.no_grad():
        gate.log_alpha.copy_(torch.tensor(log_alpha))
    return gate


def test_the_probability_is_that_of_samples() -> None:
    torch.manual_seed(0)
    gate = gate_of(-2.0, 0.0, 1.5)
    samples = torch.stack([gate().detach() for _ in range(200_000 // 10)])
    for _ in range(9):
        samples = torch.cat([samples, torch.stack([gate().detach() for _ in range(2_000)])])
    assert ((samples > 0).float().mean(0) - gate.open_probability()).abs().max() < 6e-3
    assert (samples == 0).any() and (samples == 1).any()


def test_the_gradient_goes_through_the_penalty() -> None:
    gate = gate_of(0.3)
    gate.open_probability().sum().backward()
    step = 1e-3
    numeric = (gate_of(0.3 + step).open_probability() - gate_of(0.3 - step).open_probability()) / (2 * step)
    assert gate.log_alpha.grad is not None
    torch.testing.assert_close(gate.log_alpha.grad, numeric.detach(), rtol=1e-3, atol=1e-5)


def test_in_evaluation_a_gate_is_its_formula() -> None:
    values = (-5.0, -1.0, 0.0, 2.0, 5.0)
    expected = [min(1.0, max(0.0, 1 / (1 + math.exp(-value)) * (ZETA - GAMMA) + GAMMA)) for value in values]
    found = gate_of(*values).eval()().tolist()
    assert found == pytest.approx(expected, abs=1e-6)
    assert found[0] == 0.0 and found[-1] == 1.0, "both ends are reached"
    assert BETA == 2 / 3 and (GAMMA, ZETA) == (-0.1, 1.1)


def test_the_start_and_the_ends() -> None:
    torch.manual_seed(0)
    assert HardConcrete(10_000, drop_rate=0.5).log_alpha.mean().item() == pytest.approx(0, abs=1e-3)
    gate = gate_of(-100.0, 100.0)
    gate.clamp()
    assert gate.log_alpha.tolist() == pytest.approx([MIN_LOG_ALPHA, MAX_LOG_ALPHA])


def test_the_target_grows() -> None:
    options = L0Options(target_sparsity=0.6, warmup=0.5)
    assert [target_at(step, 6, options) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.6, 0.6])
    assert target_at(0, 6, L0Options(target_sparsity=0.6, warmup=0)) == 0.6


def logits(checkpoint: Checkpoint, model: torch.nn.Module) -> torch.Tensor:
    batch = collate(checkpoint, encode_texts(checkpoint, TEXTS))
    with torch.no_grad():
        result: torch.Tensor = model(**batch.inputs).logits
    return result


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet"])
@pytest.mark.parametrize("kinds", [("heads", "neurons", "layers"), ("heads",), ("layers",), ("neurons", "layers")])
def test_the_cut_model_is_the_gated_one(kinds: Any, architecture: str, tmp_path: Path) -> None:
    """Random gates, some between 0 and 1: those that stay are folded into the weights."""
    checkpoint = tiny(tmp_path, architecture, num_hidden_layers=3)
    torch.manual_seed(1)
    gates = LayerGates(encoder_layers(checkpoint.model), kinds).eval()
    with torch.no_grad():
        for gate in gates.modules():
            if isinstance(gate, HardConcrete):
                gate.log_alpha.normal_(0.5, 2)
    kept = gates.choose(0.3, 8)
    with gates.applied(kept):
        expected = logits(checkpoint, checkpoint.model)
    with quiet():
        model, sparsity = _cut(checkpoint, gates, kept)
    torch.testing.assert_close(logits(checkpoint, model), expected, rtol=1e-5, atol=1e-5)
    cost = sum(layer.num_heads * 4 * 16 * 48 + layer.width * 2 * 48 for layer in encoder_layers(model))
    assert 1 - cost / (3 * (3 * 4 * 16 * 48 + 80 * 2 * 48)) == pytest.approx(sparsity)


@pytest.mark.parametrize("target", [0.2, 0.5, 0.8])
def test_the_target_is_reached(target: float, tmp_path: Path) -> None:
    """Within 2 % of the parameters where pieces are small enough, whatever the gates say."""
    checkpoint = tiny(tmp_path, num_hidden_layers=4, intermediate_size=320)
    for seed in range(3):
        torch.manual_seed(seed)
        gates = LayerGates(encoder_layers(checkpoint.model), ("heads", "neurons", "layers"))
        with torch.no_grad():
            for gate in gates.modules():
                if isinstance(gate, HardConcrete):
                    gate.log_alpha.normal_(0, 2)
        kept = gates.choose(target, 8)
        cost = sum(
            int(h.sum()) * gates.head_costs[i] + int(n.sum()) * gates.neuron_costs[i]
            for i, (h, n) in enumerate(zip(kept["heads"], kept["neurons"], strict=True))
        )
        assert abs(1 - cost / gates.total_cost - target) < 0.02
        assert all(int(n.sum()) % 8 == 0 for n in kept["neurons"])
        assert all(bool(h.any()) == bool(is_kept) for h, is_kept in zip(kept["heads"], kept["layers"], strict=True))


@torch.no_grad()
def test_the_expected_sparsity_by_hand(tmp_path: Path) -> None:
    """A head or a neuron stays where its own gate and that of its layer are open."""
    gates = LayerGates(encoder_layers(tiny(tmp_path).model), ("heads", "neurons", "layers"))
    torch.manual_seed(0)
    for gate in gates.modules():
        if isinstance(gate, HardConcrete):
            torch.nn.init.normal_(gate.log_alpha)
    kept = 0.0
    for index, layer in enumerate(gates.whole.open_probability().tolist()):
        heads, neurons = (float(kind[index].open_probability().sum()) for kind in (gates.heads, gates.neurons))
        kept += layer * (heads * 4 * 16 * 48 + neurons * 2 * 48)
    assert float(gates.expected_sparsity()) == pytest.approx(1 - kept / (2 * (3 * 4 * 16 * 48 + 80 * 2 * 48)))


def test_what_is_closed_goes(tmp_path: Path) -> None:
    """Of heads, neurons and layers those with the lowest gates, wherever they are."""
    layers = encoder_layers(tiny(tmp_path, num_hidden_layers=3).model)
    gates, of_layers = LayerGates(layers, ("heads", "neurons")), LayerGates(layers, ("layers",))
    with torch.no_grad():
        for gate in [*gates.heads, *gates.neurons, of_layers.whole]:
            gate.log_alpha.fill_(2.0)
        for gate, closed in ((gates.heads[0], [1]), (gates.heads[2], [2]), (gates.neurons[1], range(24, 32)), (of_layers.whole, [1])):
            gate.log_alpha[list(closed)] = -2.0
    kept = gates.choose((2 * gates.head_costs[0] + 8 * gates.neuron_costs[0]) / gates.total_cost, 8)
    assert [(~mask).nonzero().flatten().tolist() for mask in kept["heads"]] == [[1], [], [2]]
    assert [(~mask).nonzero().flatten().tolist() for mask in kept["neurons"]] == [[], [*range(24, 32)], []]
    assert of_layers.choose(1 / 3, 8)["layers"] == [True, False, True]


def test_training_closes_gates_and_the_result_can_be_read(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "model", num_hidden_layers=3)
    training = TrainingConfig(epochs=12, batch_size=8, learning_rate=1e-3)
    options = L0Options(target_sparsity=0.5, multiple_of=8, gate_learning_rate=0.2)
    with quiet():
        result = prune_l0(Job(checkpoint=checkpoint, labelled=classified(24), training=training), options)
        write_checkpoint(result.checkpoint, tmp_path / "pruned")
        read = read_checkpoint(tmp_path / "pruned")
    assert abs(result.facts["sparsity"] - 0.5) < 0.02
    torch.testing.assert_close(logits(read, read.model), logits(read, result.checkpoint.model), rtol=0, atol=0)


def test_the_lagrangian_drives_the_sparsity(tmp_path: Path) -> None:
    """Gates and multipliers alone, without a model's loss: the expected sparsity comes to the target from either side."""
    checkpoint = tiny(tmp_path)
    for target in (0.3, 0.7):
        torch.manual_seed(0)
        gates = LayerGates(encoder_layers(checkpoint.model), ("heads", "neurons"))
        logits_ = [gate.log_alpha for gate in gates.modules() if isinstance(gate, HardConcrete)]
        optimizer = torch.optim.AdamW([{"params": logits_}, {"params": [gates.multipliers], "maximize": True}], lr=0.05, weight_decay=0.0)
        for _ in range(600):
            optimizer.zero_grad()
            gates.lagrangian(target).backward()
            optimizer.step()
        assert abs(gates.expected_sparsity().item() - target) < 0.05


def test_training_drives_the_expected_sparsity(tmp_path: Path) -> None:
    """Before anything is cut, which would reach the target whatever the gates have learnt; they start at 1 %."""
    job = Job(checkpoint=tiny(tmp_path), labelled=classified(6), training=TrainingConfig(epochs=250, batch_size=6, learning_rate=1e-3))
    options = L0Options(target_sparsity=0.5, gates=("heads", "neurons"), multiple_of=8, gate_learning_rate=0.15)
    with quiet():
        result = prune_l0(job, options)
    assert abs(result.facts["expected_sparsity"] - 0.5) < 0.05


@pytest.mark.parametrize(("rate", "least", "most"), [(100.0, MIN_LOG_ALPHA, MAX_LOG_ALPHA), (0.05, 2.8, 3.1)])
def test_how_far_a_step_carries_the_gates(rate: float, least: float, most: float, tmp_path: Path) -> None:
    """Not beyond their ends; and the weights' decay, which here halves what it is of, does not draw them to 0 from 2.94."""
    training = TrainingConfig(max_steps=1, batch_size=8, weight_decay=10.0)
    job = Job(checkpoint=tiny(tmp_path / "model"), labelled=classified(8), training=training, state=tmp_path / "state")
    with quiet():
        prune_l0(job, L0Options(target_sparsity=0.3, gate_learning_rate=rate, multiple_of=8))
    state = load_file(tmp_path / "state" / "l0" / STATE)
    gates = torch.cat([tensor for name, tensor in state.items() if name.startswith("module/") and name.endswith("log_alpha")])
    assert least - 1e-6 <= gates.min() <= gates.max() <= most + 1e-6


def test_a_target_out_of_reach(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    with pytest.raises(InputError, match=r"target_sparsity 0.9 cannot be reached by gates on heads: at most 0.364"):
        prune_l0(Job(checkpoint=checkpoint, labelled=classified(8)), L0Options(target_sparsity=0.9, gates=("heads",)))
    with pytest.raises(InputError, match="l0 trains on labelled examples, given with --data, or on texts"):
        prune_l0(Job(checkpoint=checkpoint), L0Options())


@pytest.mark.parametrize("gates", [("heads",), ("neurons",), ("layers",), ("heads", "neurons", "layers")])
def test_a_target_that_would_remove_nothing(tmp_path: Path, gates: tuple[str, ...]) -> None:
    """It is refused exactly where nothing would go, whatever the gates have learnt."""
    checkpoint = tiny(tmp_path, num_hidden_layers=3)
    options = L0Options(target_sparsity=0.001, gates=gates, multiple_of=8)
    with pytest.raises(InputError, match=r"target_sparsity 0.001 would remove nothing: gates on .* begin at 0\.\d+. Raise it."):
        prune_l0(Job(checkpoint=checkpoint, labelled=classified(8)), options)
    trained = LayerGates(encoder_layers(checkpoint.model), gates)
    for gate in trained.modules():
        if isinstance(gate, HardConcrete):
            torch.nn.init.normal_(gate.log_alpha)
    least = trained.least_sparsity(8)
    assert not _is_smaller(trained.choose(least * 0.99, 8)) and _is_smaller(trained.choose(least * 1.01, 8))


def _is_smaller(kept: dict[str, Any]) -> bool:
    return not all(kept["layers"]) or not all(mask.all() for kind in ("heads", "neurons") for mask in kept[kind])


def test_a_target_that_is_missed_is_told(tmp_path: Path) -> None:
    """Whole layers alone are coarse: of three, one or two go where 45 % should."""
    checkpoint = tiny(tmp_path, num_hidden_layers=3)
    job = Job(checkpoint=checkpoint, labelled=classified(16), training=TrainingConfig(epochs=1, batch_size=8))
    with quiet():
        result = prune_l0(job, L0Options(target_sparsity=0.45, gates=("layers",)))
    assert abs(result.facts["sparsity"] - 0.45) > 0.02 and "gates on layers come no nearer to 45.0%" in result.notes[0]


def test_shared_keys_and_values_are_refused_before_training(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    with quiet():
        grouped = checkpoint.with_model(grouped_model(checkpoint.model, checkpoint.task, 1))

    def fail(_what: str, _done: int, _total: int) -> None:
        raise AssertionError("it was trained")

    with pytest.raises(UnsupportedError, match="its heads cannot be removed; remove heads first"):
        prune_l0(Job(checkpoint=grouped, labelled=classified(8), on_step=fail), L0Options())


@pytest.mark.parametrize(("alpha", "counts_labels", "counts_teacher"), [(0.0, True, False), (0.5, True, True), (1.0, False, True)])
def test_what_is_learnt(alpha: float, counts_labels: bool, counts_teacher: bool, tmp_path: Path) -> None:
    """Other labels, or another teacher, change the weights where they have a share of the loss."""
    others = [Example(example.text, classified(25)[index + 1].label) for index, example in enumerate(classified(24))]

    def trained(labelled: list[Example], seed: int) -> dict[str, torch.Tensor]:
        checkpoint = tiny(tmp_path / "0")
        teacher = checkpoint.with_model(tiny(tmp_path / f"{seed}", seed=seed).model)
        teacher.model.train()  # as a caller may have it: with dropout its answers would be noise
        modes, training = set[bool](), TrainingConfig(max_steps=2, batch_size=24)
        job = Job(
            checkpoint=checkpoint,
            teacher=teacher,
            labelled=labelled,
            training=training,
            on_step=lambda *_: modes.add(teacher.model.training),
        )
        torch.manual_seed(0)
        weights: dict[str, torch.Tensor] = prune_l0(job, L0Options(alpha=alpha, target_sparsity=0.3)).checkpoint.model.state_dict()
        assert modes == {False}
        return weights

    def are_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(tensor, second[name]) for name, tensor in first.items())

    with quiet():
        plain = trained(classified(24), 0)
        assert are_equal(plain, trained(classified(24), 0))
        assert are_equal(plain, trained(others, 0)) != counts_labels
        assert are_equal(plain, trained(classified(24), 1)) != counts_teacher


def test_a_teacher_at_chance_is_refused(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    job = Job(checkpoint=checkpoint, teacher=checkpoint, labelled=classified(8), evaluate=lambda _model: 33.4)
    with pytest.raises(TrainingError, match="not better than chance"):
        prune_l0(job, L0Options())
