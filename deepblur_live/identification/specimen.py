"""The prior of specimens' own spectra.

A blurred frame's spectrum is the specimen's times |OTF|². To separate them a prior is
needed: the logarithm of a specimen's spectrum is a mean, plus common patterns, plus a
residual per bin. A model's prior is learned from sharp pictures (`learned`); without
one a smooth surface is assumed (`smooth`); for a slide of equal beads the form factor
is known (`beads`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse.linalg import eigsh

from deepblur_live.identification.detrend import smooth_basis
from deepblur_live.identification.spectrum import WINDOW, frequencies, windowed

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SpecimenSpectrum", "symmetric"]

_CPU = torch.device("cpu")
_BINS = WINDOW * (WINDOW // 2 + 1)
# Standard deviation of the logarithm of a spectrum's level: brightness and contrast are
# free.
_LEVEL = 3.0
# Spectra are normalised by their mean between these frequencies, cycles per pixel.
_BAND = (0.05, 0.4)
_LEAST_DEVIATION = 0.05
# Deviation of real specimens from a smooth surface, and the size of its terms.
_SMOOTH_DEVIATION, _SMOOTH_TERM = 0.2, 5.0
# Deviation for a bead slide: beads are equal, and only their positions are random.
_BEAD_DEVIATION = 0.15
# |form factor|² is not trusted below this: sizes and shapes vary.
_FORM_FLOOR = 1e-4


# Compared by identity, so that what is computed from one can be kept.
@dataclass(frozen=True, eq=False)
class SpecimenSpectrum:
    """log S_x = mean + basis·b + deviation·ε, with b and ε standard normal.

    Parameters
    ----------
    mean
        (N,) over the N bins of a spectrum.
    basis
        (N, Q) patterns, each scaled by its standard deviation.
    deviation
        (N,) standard deviation of the residual.
    """

    mean: torch.Tensor
    basis: torch.Tensor
    deviation: torch.Tensor

    def __post_init__(self) -> None:
        n, q = len(self.mean), self.basis.shape[-1]
        shapes = tuple(self.basis.shape), tuple(self.deviation.shape)
        if n != _BINS or shapes != ((n, q), (n,)):
            raise ValueError(
                f"a specimen's spectrum has {_BINS} bins: got a mean of {n}, a basis "
                f"of {shapes[0]}, a deviation of {shapes[1]}"
            )

    @classmethod
    def smooth(cls) -> SpecimenSpectrum:
        """Return a prior without training: a surface smooth in log|f| and angle."""
        basis = smooth_basis(_CPU) * _SMOOTH_TERM
        n = len(basis)
        return cls(torch.zeros(n), basis, torch.full((n,), _SMOOTH_DEVIATION))

    @classmethod
    def beads(cls, diameter: float) -> SpecimenSpectrum:
        """Return the prior of a slide of equal, uniformly fluorescent beads.

        Parameters
        ----------
        diameter
            Of a bead, in camera pixels.

        Notes
        -----
        The projection of a ball of radius r is √(r² - ρ²); its transform is
        3 (sin u - u cos u) / u³ with u = 2πr|f|.
        """
        if not diameter > 0:
            raise ValueError(f"bead diameter {diameter}: must be positive, in pixels")
        radius, _ = frequencies(_CPU)
        u = (math.pi * diameter * radius.double()).clamp(min=1e-2)
        form = 3 * (torch.sin(u) - u * torch.cos(u)) / u**3
        mean = torch.log(windowed(form**2) + _FORM_FLOOR).float().flatten()
        # Random positions give a flat spectrum; clusters and haze tilt it slightly.
        surface = smooth_basis(_CPU)[:, :2] * torch.tensor([_LEVEL, 0.3])
        return cls(mean, surface, torch.full_like(mean, _BEAD_DEVIATION))

    @classmethod
    def learned(cls, spectra: torch.Tensor, patterns: int) -> SpecimenSpectrum:
        """Return the prior of a set of specimens by principal components.

        Parameters
        ----------
        spectra
            (M, W, W//2+1) power spectra of sharp pictures. Each counts four times, as
            mirrored and with its axes exchanged it is equally likely.
        patterns
            Number of components.
        """
        logs = symmetric(torch.log(spectra.clamp(min=1e-30)).float())
        radius, _ = frequencies(_CPU)
        flat = radius.flatten()
        band = (flat > _BAND[0]) & (flat < _BAND[1])
        logs = logs - logs[:, band].mean(1, keepdim=True)
        mean = logs.mean(0)
        logs -= mean
        covariance = logs.T @ logs / len(logs)
        # A fixed start makes the result reproducible.
        values, vectors = eigsh(
            covariance.double().numpy(), patterns, v0=np.ones(len(mean))
        )
        top = torch.from_numpy(vectors * np.sqrt(values.clip(min=0))).float()
        left = (covariance.diagonal() - top.square().sum(1)).clamp(min=0).sqrt()
        level = torch.full((len(mean), 1), _LEVEL)
        basis = torch.cat([level, top.flip(1)], 1)
        return cls(mean, basis, left.clamp(min=_LEAST_DEVIATION))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> SpecimenSpectrum:
        """Return the prior from the `tensors` of a file.

        Raises
        ------
        ValueError
            When a tensor is missing or has another shape.
        """
        names = ("mean", "basis", "deviation")
        if missing := [name for name in names if name not in tensors]:
            raise ValueError(f"no {' and no '.join(missing)} in it")
        return cls(*(tensors[name].float() for name in names))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors for a file."""
        return {"mean": self.mean, "basis": self.basis, "deviation": self.deviation}


def symmetric(logs: torch.Tensor) -> torch.Tensor:
    """Return (4 M, N): half spectra (M, W, W//2+1), mirrored and with axes exchanged.

    First the M unchanged, then all M in each of the three other forms.
    """
    half = WINDOW // 2 + 1
    mirrored = (-torch.arange(WINDOW)) % WINDOW
    # The spectrum of a real image is the same at f and -f.
    other = logs[:, mirrored][:, :, torch.arange(WINDOW // 2 - 1, 0, -1)]
    whole = torch.cat([logs, other], 2)
    exchanged = whole.transpose(1, 2)
    four = (whole, whole[:, mirrored], exchanged, exchanged[:, mirrored])
    return torch.cat([part[:, :, :half] for part in four]).flatten(1)
