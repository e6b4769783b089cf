"""The deblurring network: FISTA unrolled, its proximal operator learned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from deepblur_live.deblurring.data_step import (
    MAP_SIGMA,
    NETWORK_ERROR,
    TRAINED_SIGMA,
    data_weight,
    finish,
)
from deepblur_live.deblurring.noise import noise_contrast, noise_level
from deepblur_live.deblurring.proximal import ProximalNet

if TYPE_CHECKING:
    from deepblur_live.blur import LinearBlur

__all__ = ["UnrolledFista"]


class UnrolledFista(nn.Module):
    """x ← prox(z - τ_k Aᵀ(A z - y)), z ← x + β_k (x - x_previous).

    The operator is an argument of each call, so one network serves all families. Step
    sizes and momenta are learned, starting from 1 and FISTA's own. The last iterations
    take the proximal step of the data term (`LinearBlur.prox_data`) instead of a
    gradient step, and one more such step ends the network.

    Parameters
    ----------
    iterations
        Number of iterations, 15 in the paper.
    channels, shrink, depth
        Of the proximal network.
    exact
        Number of final iterations with proximal data steps.
    noise_map
        Whether the proximal network is given how the noise varies over the image.
    plain
        Number of first iterations without the proximal network: gradient steps alone.

    Raises
    ------
    ValueError
        When no iteration with a gradient step is left, or more than these are plain.

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
        noise_map: bool = False,
        plain: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= exact < iterations:
            raise ValueError(f"{exact} proximal data steps in {iterations} iterations")
        if not 0 <= plain <= iterations - exact:
            raise ValueError(f"{plain} plain of {iterations - exact} gradient steps")
        self.iterations, self.plain = iterations, plain
        self.gradients = gradients = iterations - exact
        self.noise_map = bool(noise_map)
        self.sigma_range = MAP_SIGMA if noise_map else TRAINED_SIGMA
        self.proximal = ProximalNet(channels, shrink, depth, self.noise_map)
        self.log_step = nn.Parameter(torch.zeros(gradients))
        self.momentum = nn.Parameter(torch.tensor(_fista_momenta(gradients)))

    def steps(self) -> torch.Tensor:
        """Return the (iterations - exact,) sizes τ of the gradient steps."""
        # 2·sigmoid(0) = 1; as ‖A‖ ≤ 1, gradient steps above 2 would diverge.
        return 2 * torch.sigmoid(self.log_step)

    def conditions(self, sigma: torch.Tensor) -> torch.Tensor:
        """Return the proximal network's inputs (iterations, B, 2) for noise σ (B,).

        The iteration's index over their number, and log10 σ within the trained range.
        """
        level = torch.log10(sigma.clamp(*self.sigma_range))
        stages = torch.arange(self.iterations, device=level.device) / self.iterations
        shape = (self.iterations, len(level))
        return torch.stack([stages[:, None].expand(shape), level.expand(shape)], -1)

    def forward(
        self, y: torch.Tensor, operator: LinearBlur, sigma: torch.Tensor
    ) -> torch.Tensor:
        """Deblur images.

        Parameters
        ----------
        y
            (B, H, W) blurred images, extended to the operator's shape, scaled to
            about [0, 1]; H and W even.
        operator
            A(γ), on y's shape.
        sigma
            Standard deviation of the noise in y: (B,), or (B, H, W) at each pixel
            (`NoiseModel.map`). A network without a noise map uses the level where the
            detail is (`noise_level`).

        Returns
        -------
        torch.Tensor
            (B, H, W), the sharp images, with the flux of y.
        """
        level = noise_level(sigma, y)
        contrast = (
            noise_contrast(sigma, level, y, self.proximal.shrink)
            if self.noise_map
            else None
        )
        prepared = operator.prepare(y)
        steps, conditions = self.steps(), self.conditions(level)
        x = z = y
        weight = data_weight(level.clamp(*self.sigma_range))
        for k in range(self.gradients):
            new = operator.gradient_step(z, prepared, steps[k])
            if k >= self.plain:
                new = self.proximal(new[:, None], conditions[k], contrast)[:, 0].float()
            z = new + self.momentum[k] * (new - x)
            x = new
        for k in range(self.gradients, self.iterations):
            z = operator.prox_data(x, y, weight, NETWORK_ERROR)
            x = self.proximal(z[:, None], conditions[k], contrast)[:, 0].float()
        return finish(x, y, operator, weight, self.proximal.shrink)


def _fista_momenta(iterations: int) -> list[float]:
    momenta, t = [], 1.0
    for _ in range(iterations):
        following = (1 + math.sqrt(1 + 4 * t * t)) / 2
        momenta.append((t - 1) / following)
        t = following
    return momenta
