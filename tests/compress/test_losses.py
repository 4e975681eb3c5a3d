"""Distillation losses: values by independent numpy, the limits and the invariances that they must have."""

import numpy as np
import pytest
import torch

from trtbert.compress import losses

GENERATOR = torch.Generator().manual_seed(0)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def other(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7 + sum(shape)), dtype=torch.float64)


def softmax(x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])


def test_hinton_by_hand() -> None:
    student, teacher = randn(4, 5), other(4, 5)
    for temperature in (1.0, 3.0):
        p, q = softmax(teacher.numpy() / temperature), softmax(student.numpy() / temperature)
        expected = temperature**2 * (p * np.log(p / q)).sum() / 4
        assert float(losses.hinton(student, teacher, temperature)) == pytest.approx(expected)


def gradient_norm(temperature: float, scale: float) -> float:
    student = (1e-2 * randn(8, 6)).requires_grad_()
    (scale * losses.hinton(student, 1e-2 * other(8, 6), temperature)).backward()
    assert student.grad is not None
    return float(student.grad.norm())


def test_the_gradient_keeps_its_size_at_any_temperature() -> None:
    norms = [gradient_norm(temperature, 1.0) for temperature in (2.0, 4.0, 8.0)]
    assert max(norms) / min(norms) < 1.05
    without = [gradient_norm(temperature, temperature**-2) for temperature in (2.0, 4.0, 8.0)]
    assert without[0] / without[1] == pytest.approx(4, rel=0.05) == without[1] / without[2]


def test_at_high_temperature_it_is_the_squared_error_of_the_logits() -> None:
    """T -> infinity with logits of mean 0: the gradient is (z_s - z_t) / C for each example."""
    teacher = other(3, 4) - other(3, 4).mean(-1, keepdim=True)
    student = (randn(3, 4) - randn(3, 4).mean(-1, keepdim=True)).requires_grad_()
    losses.hinton(student, teacher, 1000.0).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, (student.detach() - teacher) / 4 / 3, rtol=1e-2, atol=1e-4)


def test_a_teacher_that_the_student_equals() -> None:
    logits, hidden = randn(3, 5), randn(3, 5, 8)
    assert float(losses.hinton(logits, logits, 2.0)) == pytest.approx(0)
    assert float(losses.logits_mse(logits, logits)) == 0
    assert float(losses.hidden_mse(hidden, hidden, MASK)) == 0
    assert float(losses.cosine(hidden, hidden, MASK)) == pytest.approx(0)
    assert float(losses.patient([hidden[:, 0]], [3 * hidden[:, 0]])) == pytest.approx(0), "the length does not count"
    assert float(losses.relation(hidden, hidden, MASK, 2)) == pytest.approx(0)


@pytest.mark.parametrize("name", ["hinton", "mse", "soft", "cosine", "hidden", "attention", "relation"])
def test_padding_does_not_count(name: str) -> None:
    """Other numbers in padding leave the loss as it is."""
    student, teacher = randn(3, 5, 8), other(3, 5, 8)
    changed = student + 100 * (MASK[:, :, None] == 0)
    scores = [x.view(3, 5, 2, 4).transpose(1, 2) @ x.view(3, 5, 2, 4).permute(0, 2, 3, 1) for x in (student, changed, teacher)]
    function = {
        "hinton": lambda x, y: losses.hinton(x, y, 2.0, MASK),
        "mse": lambda x, y: losses.logits_mse(x, y, MASK),
        "soft": lambda x, y: losses.soft_cross_entropy(x, y, MASK),
        "cosine": lambda x, y: losses.cosine(x, y, MASK),
        "hidden": lambda x, y: losses.hidden_mse(x, y, MASK),
        "attention": lambda x, y: losses.attention_mse(scores[0] if x is student else scores[1], scores[2], MASK),
        "relation": lambda x, y: losses.relation(x, y, MASK, 2),
    }[name]
    assert float(function(student, teacher)) > 0
    torch.testing.assert_close(function(changed, teacher), function(student, teacher))


def test_the_scores_are_those_before_the_softmax() -> None:
    """TinyBERT's loss by its formula, for one text without padding."""
    student, teacher = randn(1, 2, 3, 3), other(1, 2, 3, 3)
    expected = ((student - teacher) ** 2).numpy().mean()
    assert float(losses.attention_mse(student, teacher, torch.ones(1, 3))) == pytest.approx(expected)


def test_prediction_is_not_divided_by_the_labels() -> None:
    student, teacher = randn(4, 5), other(4, 5)
    expected = -(softmax(teacher.numpy()) * np.log(softmax(student.numpy()))).sum() / 4
    assert float(losses.soft_cross_entropy(student, teacher)) == pytest.approx(expected)


def test_patient_sums_over_the_dimensions() -> None:
    student, teacher = [randn(3, 8), randn(3, 9)[:, :8]], [other(3, 8), other(3, 9)[:, :8]]
    unit = [x / x.norm(dim=-1, keepdim=True) for x in (*student, *teacher)]
    expected = np.mean([((unit[k] - unit[k + 2]) ** 2).sum(-1).mean() for k in range(2)])
    assert float(losses.patient(student, teacher)) == pytest.approx(expected)


def test_relations_need_no_equal_sizes() -> None:
    """Student of 8 columns, teacher of 12, two relation heads: by the formula in numpy."""
    student, teacher = randn(1, 3, 8), other(1, 3, 12)

    def relations(x: torch.Tensor) -> np.ndarray:
        split = x[0].numpy().reshape(3, 2, -1).transpose(1, 0, 2)
        return softmax(split @ split.transpose(0, 2, 1) / split.shape[-1] ** 0.5)

    p, q = relations(teacher), relations(student)
    assert float(losses.relation(student, teacher, torch.ones(1, 3), 2)) == pytest.approx((p * np.log(p / q)).sum(-1).mean())
