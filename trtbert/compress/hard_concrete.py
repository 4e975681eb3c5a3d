"""Gates that are exactly 0 or 1 with a probability that can be learnt (Louizos, Welling and Kingma, 2018)."""

import math

import torch
from torch import nn

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
"""Temperature, and the ends that the stretched sample is clipped from."""
MIN_LOG_ALPHA, MAX_LOG_ALPHA = math.log(1e-2), math.log(1e2)
_MIN_U = 1e-6


class HardConcrete(nn.Module):
    """`count` gates; a forward pass samples them in training mode and gives their deterministic values in evaluation mode."""

    def __init__(self, count: int, *, drop_rate: float = 0.05, spread: float = 0.01) -> None:
        """Each log alpha is drawn about log(1 - rate) - log(rate): so many gates are closed at the start."""
        super().__init__()
        mean = math.log(1 - drop_rate) - math.log(drop_rate)
        self.log_alpha = nn.Parameter(mean + spread * torch.randn(count))

    def forward(self) -> torch.Tensor:
        """s = sigmoid((log u - log(1-u) + log alpha) / beta), stretched to (gamma, zeta) and clipped to [0, 1]; u uniform.

        In evaluation z = sigmoid(log alpha), stretched and clipped, with no division by beta.
        """
        if not self.training:
            return _stretched(torch.sigmoid(self.log_alpha))
        u = torch.rand_like(self.log_alpha).clamp(_MIN_U, 1 - _MIN_U)
        return _stretched(torch.sigmoid((u.log() - (1 - u).log() + self.log_alpha) / BETA))

    def open_probability(self) -> torch.Tensor:
        """P(z > 0) = sigmoid(log alpha - beta log(-gamma / zeta))."""
        return torch.sigmoid(self.log_alpha - BETA * math.log(-GAMMA / ZETA))

    @torch.no_grad()
    def clamp(self) -> None:
        """After a step: beyond these ends a gate would no longer move."""
        self.log_alpha.clamp_(MIN_LOG_ALPHA, MAX_LOG_ALPHA)


def _stretched(s: torch.Tensor) -> torch.Tensor:
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
