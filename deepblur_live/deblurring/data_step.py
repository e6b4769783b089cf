"""The proximal data steps of the network's last iterations, and how it ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from deepblur_live.blur import LinearBlur

__all__ = [
    "MAP_SIGMA",
    "NETWORK_ERROR",
    "TRAINED_SIGMA",
    "data_weight",
    "finish",
    "without_grid",
]

TRAINED_SIGMA = (7e-4, 0.1)
"""Range of the noise in training: outside it the network is given the nearest value."""

MAP_SIGMA = (7e-4, 0.3)
"""The same range of networks that take a noise map."""

NETWORK_ERROR = 0.018
"""Typical error of the network's image, rms, for images in [0, 1]
(docs/decisions/0006-proximal-data-steps.md)."""

# Of what counts as a grid: its amplitude, for images in [0, 1], and the exponent that
# says how near its frequencies are.
_FAINT, _STEEPNESS = 0.004, 16


def data_weight(sigma: torch.Tensor) -> torch.Tensor:
    """Return λ (B, 1, 1) of a data step: noise variance over the network's error."""
    return (sigma / NETWORK_ERROR)[:, None, None] ** 2


def finish(
    x: torch.Tensor,
    y: torch.Tensor,
    operator: LinearBlur,
    weight: torch.Tensor,
    fold: int,
) -> torch.Tensor:
    """Return the network's image (B, H, W) after a last data step, with the flux of y.

    A few gradient steps do not reach the frequencies that the blur has nearly removed;
    at low noise the data still determine them. So the grid of the network, which is
    given `fold` × `fold` pixels together, is removed first.
    """
    x = operator.prox_data(without_grid(x, fold), y, weight, NETWORK_ERROR)
    # A convolution conserves flux; the learned operator may not.
    return x + (y - x).mean((-2, -1), keepdim=True)


def without_grid(image: torch.Tensor, fold: int) -> torch.Tensor:
    """Return images (B, H, W) without faint patterns that repeat every `fold` pixels.

    These are frequencies near k / `fold` cycles per pixel along both axes, but for
    zero. A pattern g that is much weaker than `_FAINT` is removed; of one that is much
    stronger, which is detail, hardly anything is (docs/decisions/0264-faint-grid.md).

    H and W are multiples of `fold`.
    """
    rows, columns = image.shape[-2:]
    down = torch.arange(rows, device=image.device) / rows
    across = torch.arange(columns // 2 + 1, device=image.device) / columns
    of_grid = torch.outer(_near(down, fold), _near(across, fold))
    of_grid = of_grid - torch.outer(_near(down, 1), _near(across, 1))
    spectrum = torch.fft.rfft2(image) * of_grid
    grid: torch.Tensor = torch.fft.irfft2(spectrum, s=(rows, columns))
    return image - grid / (1 + (grid / _FAINT) ** 2)


def _near(frequency: torch.Tensor, fold: int) -> torch.Tensor:
    """Return how near frequencies are to a multiple of 1 / `fold` cycles per pixel."""
    shares = [
        torch.cos(math.pi * (frequency - k / fold)) ** _STEEPNESS for k in range(fold)
    ]
    return torch.stack(shares).sum(0)
