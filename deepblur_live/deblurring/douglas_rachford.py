"""The quality preset: Douglas–Rachford unrolled, each data step solved, not descended.

For graphics cards: its proximal network costs ten times the live one's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from deepblur_live.deblurring.data_step import (
    TRAINED_SIGMA,
    data_step,
    finish,
    finish_weight,
)
from deepblur_live.deblurring.drunet import DRUNet

if TYPE_CHECKING:
    from deepblur_live.optics import BlurOperator

__all__ = ["UnrolledDouglasRachford"]

_LAMBDA = 3e-2
# Steps of conjugate gradient: the first solve starts from nothing.
_FIRST_STEPS, _STEPS = 10, 5


class UnrolledDouglasRachford(nn.Module):
    """x ← argmin ‖A x - y‖² + λ_k ‖x - z‖², p ← prox(2x - z), z ← z + p - x.

    The operator is given at each call; one proximal network serves all iterations. Each
    iteration's λ is learned, and how it grows with the noise; it starts as 3·σ, which
    is the 0.03 of the released weights at σ = 0.01.

    Parameters
    ----------
    iterations
        Number of iterations, 4 in the weights that were released with the paper.
    blocks
        Residual blocks a scale of the proximal network.

    References
    ----------
    Lions & Mercier, SIAM J. Numerical Analysis 16(6) 1979; Debarnot & Weiss, Biological
    Imaging 4:e13 (2024).
    """

    def __init__(self, iterations: int = 4, blocks: int = 4) -> None:
        super().__init__()
        self.iterations = iterations
        self.proximal = DRUNet(blocks=blocks)
        self.log_lambda = nn.Parameter(torch.full((iterations,), math.log(_LAMBDA)))
        self.lambda_slope = nn.Parameter(torch.full((iterations,), math.log(10)))

    def forward(
        self, y: torch.Tensor, operator: BlurOperator, sigma: torch.Tensor
    ) -> torch.Tensor:
        """Deblur images (B, H, W) of noise (B,), as `UnrolledFista.forward` does.

        H and W are multiples of ``proximal.shrink``.
        """
        level = torch.log10(sigma.clamp(*TRAINED_SIGMA))
        z = p = y
        for k in range(self.iterations):
            weight = torch.exp(self.log_lambda[k] + self.lambda_slope[k] * (level + 2))
            steps = _STEPS if k else _FIRST_STEPS
            x = data_step(operator, z, y, weight[:, None, None], steps)
            stage = torch.full_like(level, k / self.iterations)
            condition = torch.stack([stage, level], 1)
            p = self.proximal((2 * x - z)[:, None], condition)[:, 0].float()
            z = z + p - x
        return finish(p, y, operator, finish_weight(sigma))
