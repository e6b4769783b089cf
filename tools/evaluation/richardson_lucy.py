"""Richardson–Lucy and what became of it: regularised, accelerated, stopped locally.

All take a frame (H, W) of light ≥ 0, continued periodically, and a PSF (K, K) of sum 1,
start from the frame's mean, and return the estimate (H, W).
"""

from __future__ import annotations

import numpy as np
import torch

from deepblur_live.blur import Convolution

__all__ = [
    "accelerated_richardson_lucy",
    "consensus_richardson_lucy",
    "log_likelihood",
    "tv_richardson_lucy",
]

# Keep ratios and normalised gradients finite where the image is dark or flat.
_DARK, _FLAT = 1e-6, 1e-8
# Share of the pixels below which an iteration that still updates them is the last.
_FEWEST_UPDATED = 0.01


def _started(
    y: torch.Tensor, psf: torch.Tensor
) -> tuple[torch.Tensor, Convolution, torch.Tensor]:
    """Return the frame without negative values, the blur, and the first estimate."""
    y = y.clamp(min=0)
    operator = Convolution(psf, (y.shape[-2], y.shape[-1]))
    return y, operator, torch.full_like(y, float(y.mean()))


def _correction(
    x: torch.Tensor, y: torch.Tensor, operator: Convolution
) -> torch.Tensor:
    """Return the factor (H, W) by which one iteration multiplies an estimate."""
    return operator.adjoint(y / operator.forward(x).clamp(min=_DARK))


def log_likelihood(x: torch.Tensor, y: torch.Tensor, psf: torch.Tensor) -> float:
    """Return the Poisson log-likelihood of an estimate, without its constant."""
    y, operator, _ = _started(y, psf)
    mean = operator.forward(x).clamp(min=_DARK).double()
    return float((y * mean.log() - mean).sum())


def _curvature(x: torch.Tensor) -> torch.Tensor:
    """Return div(∇x / |∇x|) of an image (H, W), periodic."""
    down, right = (x.roll(-1, axis) - x for axis in (0, 1))
    length = (down.square() + right.square() + _FLAT).sqrt()
    down, right = down / length, right / length
    return down - down.roll(1, 0) + right - right.roll(1, 1)


def tv_richardson_lucy(
    y: torch.Tensor, psf: torch.Tensor, iterations: int = 20, weight: float = 0.03
) -> torch.Tensor:
    """Return the estimate with a penalty on its total variation.

    References
    ----------
    Dey, Blanc-Féraud, Zimmer, Roux, Kam, Olivo-Marin & Zerubia, Microscopy Research and
    Technique 69(4) 2006.
    """
    y, operator, x = _started(y, psf)
    for _ in range(iterations):
        step = _correction(x, y, operator) / (1 - weight * _curvature(x))
        x = (x * step).clamp(min=0)
    return x


def accelerated_richardson_lucy(
    y: torch.Tensor, psf: torch.Tensor, iterations: int = 7
) -> torch.Tensor:
    """Return the estimate by steps from where the last two point to.

    References
    ----------
    Biggs & Andrews, Applied Optics 36(8) 1997.
    """
    y, operator, x = _started(y, psf)
    previous = x
    last = before = torch.zeros_like(x)
    for _ in range(iterations):
        length = float((before * before).sum())
        ahead = float((last * before).sum()) / length if length > 0 else 0.0
        predicted = x + min(max(ahead, 0.0), 1.0) * (x - previous)
        predicted = predicted.clamp(min=0)
        new = (predicted * _correction(predicted, y, operator)).clamp(min=0)
        previous, x, before, last = x, new, last, new - predicted
    return x


def consensus_richardson_lucy(
    y: torch.Tensor, psf: torch.Tensor, electrons: float, iterations: int = 30
) -> torch.Tensor:
    """Return the estimate with gradient consensus (RLGC), which stops by itself.

    In each iteration every photon goes to one of two halves at random. Where the two
    halves' corrections, their product blurred by the PSF and back, do not agree on the
    direction, a pixel keeps its value.

    Parameters
    ----------
    y, psf
        As of all functions here.
    electrons
        Photoelectrons per unit of light: the split needs counts.
    iterations
        The most; it ends sooner when less than 1 % of the pixels are updated.

    References
    ----------
    Manton & York, *Gradient consensus*, 2023, doi 10.5281/zenodo.10278919; the method
    as its public implementation has it (github.com/jdmanton/rlgc, BSD-3-Clause).
    """
    y, operator, x = _started((y * electrons).round(), psf)
    counts = y.numpy().astype(np.int64)
    chance = np.random.default_rng(0)
    for _ in range(iterations):
        half = torch.from_numpy(chance.binomial(counts, 0.5)).to(y.dtype)
        first = _correction(x / 2, half, operator)
        second = _correction(x / 2, y - half, operator)
        agreement = operator.adjoint(operator.forward((first - 1) * (second - 1)))
        updated = agreement >= 0
        # The mean of the halves' corrections is that of the whole frame.
        step = torch.where(updated, (first + second) / 2, 1.0)
        x = (x * step).clamp(min=0)
        if float(updated.float().mean()) < _FEWEST_UPDATED:
            break
    return x / electrons
