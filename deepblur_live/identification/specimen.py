"""The specimen's own spectrum as a prior: what sharp pictures have in common.

A blurred frame's spectrum is the specimen's times the OTF's. To tell the one from the
other one must know how specimens' spectra look: their logarithm is a mean, plus
patterns that many pictures share, plus what is left, bin by bin. A model's are learned
from sharp pictures (`learned`); without one a smooth surface must do (`smooth`), and of
a slide of equal beads the form factor is known (`beads`).
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
# Brightness and contrast are anything: e³ either way, and the same again at two sigma.
_LEVEL = 3.0
# Learned spectra are compared at one level: their mean over these cycles a pixel.
_BAND = (0.05, 0.4)
_LEAST_DEVIATION = 0.05
# Without learning: how far real specimens stray from a smooth surface, and the size of
# its terms.
_SMOOTH_DEVIATION, _SMOOTH_TERM = 0.2, 5.0
# A bead slide's spectrum strays less: beads are equal, and only their places random.
_BEAD_DEVIATION = 0.15
# |form factor|² is never trusted below this: sizes and shapes scatter.
_FORM_FLOOR = 1e-4


@dataclass(frozen=True)
class SpecimenSpectrum:
    """log S_x = mean + basis·b + deviation·ε, with b and ε standard normal.

    Parameters
    ----------
    mean
        (N,) over the N bins of a spectrum.
    basis
        (N, Q) patterns, each of the size that it has in one specimen of its kind.
    deviation
        (N,) what the patterns leave.
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
        """Return the prior without learning: a surface smooth in log|f| and angle."""
        basis = smooth_basis(_CPU) * _SMOOTH_TERM
        n = len(basis)
        return cls(torch.zeros(n), basis, torch.full((n,), _SMOOTH_DEVIATION))

    @classmethod
    def beads(cls, diameter: float) -> SpecimenSpectrum:
        """Return the prior of a slide of equal beads, fluorescent throughout.

        Parameters
        ----------
        diameter
            Of a bead, in camera pixels.

        Notes
        -----
        A ball of radius r, seen from above, is √(r² - ρ²); its transform is
        3 (sin u - u cos u) / u³ with u = 2πr|f|.
        """
        if not diameter > 0:
            raise ValueError(f"bead diameter {diameter}: must be positive, in pixels")
        radius, _ = frequencies(_CPU)
        u = (math.pi * diameter * radius.double()).clamp(min=1e-2)
        form = 3 * (torch.sin(u) - u * torch.cos(u)) / u**3
        mean = torch.log(windowed(form**2) + _FORM_FLOOR).float().flatten()
        # Places at random give a flat spectrum; clusters and a haze tilt it gently.
        surface = smooth_basis(_CPU)[:, :2] * torch.tensor([_LEVEL, 0.3])
        return cls(mean, surface, torch.full_like(mean, _BEAD_DEVIATION))

    @classmethod
    def learned(cls, spectra: torch.Tensor, patterns: int) -> SpecimenSpectrum:
        """Return the prior that a set of specimens has: principal components.

        Parameters
        ----------
        spectra
            (M, W, W//2+1) power spectra of sharp pictures. Each counts four times:
            mirrored and with its axes exchanged it is as likely.
        patterns
            How many components to keep.
        """
        logs = symmetric(torch.log(spectra.clamp(min=1e-30)).float())
        radius, _ = frequencies(_CPU)
        flat = radius.flatten()
        band = (flat > _BAND[0]) & (flat < _BAND[1])
        logs = logs - logs[:, band].mean(1, keepdim=True)
        mean = logs.mean(0)
        logs -= mean
        covariance = logs.T @ logs / len(logs)
        # A fixed start makes the iteration, and so the file, repeat.
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
        """Return the prior that `tensors` holds.

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
        """Return what a file of it holds."""
        return {"mean": self.mean, "basis": self.basis, "deviation": self.deviation}


def symmetric(logs: torch.Tensor) -> torch.Tensor:
    """Return (4 M, N): half spectra (M, W, W//2+1) mirrored and with axes exchanged.

    The M as they are come first, then each of the three others of all.
    """
    half = WINDOW // 2 + 1
    mirrored = (-torch.arange(WINDOW)) % WINDOW
    # A real image's spectrum is the same at f and -f.
    other = logs[:, mirrored][:, :, torch.arange(WINDOW // 2 - 1, 0, -1)]
    whole = torch.cat([logs, other], 2)
    turned = whole.transpose(1, 2)
    four = (whole, whole[:, mirrored], turned, turned[:, mirrored])
    return torch.cat([part[:, :, :half] for part in four]).flatten(1)
