"""The proximal data steps of the network's last iterations, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from deepblur_live.blur import LinearBlur

__all__ = ["MAP_SIGMA", "NETWORK_ERROR", "TRAINED_SIGMA", "data_weight", "finish"]

TRAINED_SIGMA = (7e-4, 0.1)
"""Range of the noise in training: outside it the network is given the nearest value."""

MAP_SIGMA = (7e-4, 0.3)
"""The same range of networks that take a noise map."""

NETWORK_ERROR = 0.018
"""Typical error of the network's image, rms, for images in [0, 1]
(docs/decisions/0006-proximal-data-steps.md)."""


def data_weight(sigma: torch.Tensor) -> torch.Tensor:
    """Return λ (B, 1, 1) of a data step: noise variance over the network's error."""
    return (sigma / NETWORK_ERROR)[:, None, None] ** 2


def finish(
    x: torch.Tensor, y: torch.Tensor, operator: LinearBlur, weight: torch.Tensor
) -> torch.Tensor:
    """Return the network's image (B, H, W) after a last data step, with the flux of y.

    A few gradient steps do not reach the frequencies that the blur has nearly removed;
    at low noise the data still determine them.
    """
    x = operator.prox_data(x, y, weight, NETWORK_ERROR)
    # A convolution conserves flux; the learned operator may not.
    return x + (y - x).mean((-2, -1), keepdim=True)
