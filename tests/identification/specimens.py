"""Specimens for the tests of identification: random but repeatable."""

from functools import lru_cache

import numpy as np
import torch

from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.identification.fit import Fit
from deepblur_live.runtime.pack import load_manifest

__all__ = [
    "ERRORS",
    "FAMILY",
    "LENIENT",
    "blurred",
    "cells",
    "fit_of",
    "other_sign",
    "rotated",
]

FAMILY = ZernikeFamily()
ERRORS = load_manifest("zernike7")[1].error_model
# The simulated cells fit the smooth prior of specimens less well than real ones fit the
# learned prior that the limit of the misfit was made for.
LENIENT = ERRORS.model_copy(
    update={"verdict": ERRORS.verdict.model_copy(update={"poor_misfit": 2.0})}
)
_MARGIN = FAMILY.window - 1


def cells(size=256, seed=0):
    """Discs and points of many sizes: edges, and a spectrum that falls slowly."""
    return _cells(size, seed).clone()


@lru_cache(maxsize=64)
def _cells(size, seed):
    generator = torch.Generator().manual_seed(seed)
    side = size + _MARGIN
    line = torch.arange(side)
    image = torch.zeros(side, side)
    for _ in range(120):
        cy, cx = torch.rand(2, generator=generator) * side
        radius = 1 + 12 * torch.rand(1, generator=generator) ** 3
        stretch = 0.5 + torch.rand(1, generator=generator)
        # Only the part of the image that the disc may reach: half axes are up to √2·r.
        reach = 1.5 * float(radius) + 1
        rows, columns = (
            slice(max(0, int(c - reach)), int(c + reach) + 2) for c in (cy, cx)
        )
        y, x = line[rows, None], line[columns]
        disc = (y - cy) ** 2 * stretch + (x - cx) ** 2 / stretch < radius**2
        image[rows, columns] += disc * (0.1 + 0.9 * torch.rand(1, generator=generator))
    points = torch.rand(side, side, generator=generator) < 0.003
    return (image + points * 2.0) / image.max()


def blurred(specimen, gamma, sigma, seed=0):
    """The camera's view of a specimen: its interior, blurred, with noise."""
    shape = (specimen.shape[0], specimen.shape[1])
    y = FAMILY.operator(torch.as_tensor(gamma).float(), shape).forward(specimen)
    cut = _MARGIN // 2
    y = y[cut:-cut, cut:-cut]
    generator = torch.Generator().manual_seed(seed)
    return y + sigma * torch.randn(y.shape, generator=generator)


def rotated(gamma):
    """The coefficients of the PSF rotated by 180°: odd modes change sign."""
    return np.where(FAMILY.even, gamma, -np.asarray(gamma))


def other_sign(gamma):
    """The coefficients of the same PSF with the other sign of the even modes."""
    return np.where(FAMILY.even, -np.asarray(gamma), gamma)


def fit_of(coefficients, objective, curvature, competing, quality):
    """A fit of the family with the shipped model's errors."""
    scale = FAMILY.prior.scale
    return Fit(coefficients, objective, curvature, competing, quality, ERRORS, scale)
