"""A family that is not Zernike, whole in one file: Gaussians of any width and axes.

The coefficients are the mean width, and the elongation along the rows and along the
diagonal: the standard deviations along the axes are width ± |elongation|, and the angle
of the long axis is half the angle of the elongation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from deepblur_live.blur import (
    Box,
    Cause,
    ChangeMetric,
    Convolution,
    Prior,
    Quality,
    ResolvedBy,
    Symmetry,
)

CENTRE, HALF_WIDTH = np.array([1.5, 0.0, 0.0]), np.array([0.7, 0.4, 0.4])


@dataclass(frozen=True)
class GaussianFamily:
    """Anisotropic Gaussian PSFs."""

    pixel_size_nm: float = 100.0

    names = ("width", "elongation along x", "elongation at 45°")
    unit = "pixels"
    n_coefficients = 3
    window = 21
    cutoff = 0.25

    @classmethod
    def from_optics(cls, optics):
        return cls(optics.pixel_size_nm)

    @cached_property
    def prior(self):
        covariance = np.diag((0.6 * HALF_WIDTH) ** 2)
        return Prior(CENTRE, covariance, HALF_WIDTH, Box(CENTRE, HALF_WIDTH))

    @cached_property
    def symmetries(self):
        flipped = np.array([False, True, True])
        return (Symmetry.sign_change("rotation by 90°", flipped, ResolvedBy.SPECTRUM),)

    @cached_property
    def metric(self):
        return ChangeMetric(np.eye(3), "pixels", "pixels", display_digits=2)

    def sample(self, n, generator=None):
        unit = torch.rand(n, 3, generator=generator) * 2 - 1
        return torch.tensor(CENTRE + HALF_WIDTH * unit.double().numpy()).float()

    search_points = sample

    def psf(self, coefficients, position=None):
        width, along, diagonal = coefficients.unsqueeze(-1).unsqueeze(-1).unbind(-3)
        elongation = torch.sqrt(along**2 + diagonal**2 + 1e-12)
        long, short = width + elongation, (width - elongation).clamp(min=0.2)
        # Unit vectors at twice the angle of the long axis.
        cosine, sine = along / elongation, diagonal / elongation
        mean, half = (long**-2 + short**-2) / 2, (long**-2 - short**-2) / 2
        index = torch.arange(self.window).to(coefficients) - self.window // 2
        y, x = torch.meshgrid(index, index, indexing="ij")
        square = x**2 - y**2
        exponent = mean * (x**2 + y**2) + half * (cosine * square + 2 * sine * x * y)
        psf = torch.exp(-exponent / 2)
        return psf / psf.sum((-2, -1), keepdim=True)

    def psf_and_jacobian(self, coefficients, position=None):
        rows = coefficients.reshape(-1, 3)
        jacobian = torch.func.vmap(torch.func.jacrev(self.psf))(rows)
        shape = (*coefficients.shape, self.window, self.window)
        return self.psf(coefficients), jacobian.movedim(-1, 1).reshape(shape)

    def coarse(self):
        return self

    def kernels(self, coefficients):
        return (self.psf(coefficients),)

    def operator_from(self, kernels, shape, frame=None):
        return Convolution(kernels[0], shape, frame)

    def operator(self, coefficients, shape, frame=None):
        return self.operator_from(self.kernels(coefficients), shape, frame)

    def canonical(self, coefficients):
        return np.asarray(coefficients, dtype=np.float64).copy()

    def quality(self, coefficients):
        width, along, diagonal = np.asarray(coefficients, dtype=np.float64)
        area = width**2 - along**2 - diagonal**2
        return (
            Quality("resolution", 2.355 * float(width), "pixels"),
            Quality("peak", 1 / (2 * math.pi * max(float(area), 0.1))),
        )

    def diagnose(self, change, shape):
        if abs(change[0]) > np.hypot(*change[1:]):
            return Cause("the focus has moved", "Refocus.")
        return Cause("something pulls on one side", "Loosen the clamp.")

    def describe(self):
        return "Gaussians of any width and axes"
