"""The deblurring network: FISTA unrolled, its proximal operator learned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from deepblur_live.deblurring.data_step import (
    TRAINED_SIGMA,
    explained,
    finish,
    finish_weight,
)
from deepblur_live.deblurring.proximal import ProximalNet

if TYPE_CHECKING:
    from deepblur_live.optics import BlurOperator

__all__ = ["UnrolledFista"]


class UnrolledFista(nn.Module):
    """x ← prox(z - τ_k Aᵀ(A z - y)), z ← x + β_k (x - x_previous).

    The operator is given at each call, so one network serves the whole family. Step
    sizes and momenta are learned; they start as 1 and FISTA's own. The last iterations
    take exact data steps instead, and one more ends it, see `explained`.

    Parameters
    ----------
    iterations
        Number of iterations, 15 in the paper.
    channels, shrink, depth
        Of the proximal network.
    exact
        How many of the iterations, the last, take exact data steps.

    Raises
    ------
    ValueError
        When that leaves no iteration for a gradient step.

    References
    ----------
    Beck & Teboulle, SIAM J. Imaging Sciences 2(1) 2009; Debarnot & Weiss, Biological
    Imaging 4:e13 (2024).
    """

    def __init__(
        self,
        iterations: int = 15,
        channels: int = 32,
        shrink: int = 2,
        depth: int = 5,
        exact: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= exact < iterations:
            raise ValueError(f"{exact} exact data steps in {iterations} iterations")
        self.iterations = iterations
        self.gradients = gradients = iterations - exact
        self.proximal = ProximalNet(channels, shrink, depth)
        self.log_step = nn.Parameter(torch.zeros(gradients))
        self.momentum = nn.Parameter(torch.tensor(_fista_momenta(gradients)))

    def steps(self) -> torch.Tensor:
        """Return the (iterations - exact,) sizes τ of the gradient steps."""
        # 2·sigmoid(0) = 1; a gradient step over 2 would diverge, as ‖A‖ ≤ 1.
        return 2 * torch.sigmoid(self.log_step)

    def conditions(self, sigma: torch.Tensor) -> torch.Tensor:
        """Return (iterations, B, 2), what the proximal network is told of noise (B,).

        The iteration over their number, and log10 σ within the trained range.
        """
        level = torch.log10(sigma.clamp(*TRAINED_SIGMA))
        stages = torch.arange(self.iterations, device=level.device) / self.iterations
        shape = (self.iterations, len(level))
        return torch.stack([stages[:, None].expand(shape), level.expand(shape)], -1)

    def forward(
        self, y: torch.Tensor, operator: BlurOperator, sigma: torch.Tensor
    ) -> torch.Tensor:
        """Deblur images.

        Parameters
        ----------
        y
            (B, H, W) blurred images, continued to the operator's shape, scaled to
            about [0, 1]; H and W even.
        operator
            A(γ), on y's shape.
        sigma
            (B,) standard deviation of the noise in y.

        Returns
        -------
        torch.Tensor
            (B, H, W), the sharp images, with the light of y.
        """
        right_side = operator.right_side(y)
        steps, conditions = self.steps(), self.conditions(sigma)
        x = z = y
        weight = finish_weight(sigma)
        for k in range(self.gradients):
            z = operator.gradient_step(z, right_side, steps[k])
            new = self.proximal(z[:, None], conditions[k])[:, 0].float()
            z = new + self.momentum[k] * (new - x)
            x = new
        for k in range(self.gradients, self.iterations):
            z = explained(x, y, operator, weight)
            x = self.proximal(z[:, None], conditions[k])[:, 0].float()
        return finish(x, y, operator, weight)


def _fista_momenta(iterations: int) -> list[float]:
    momenta, t = [], 1.0
    for _ in range(iterations):
        following = (1 + math.sqrt(1 + 4 * t * t)) / 2
        momenta.append((t - 1) / following)
        t = following
    return momenta
