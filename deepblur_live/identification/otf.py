"""The effect of a blur on a power spectrum: log|ĥ|², its derivatives, and a library."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from deepblur_live.identification.spectrum import WINDOW, windowed

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily

__all__ = ["LinearOtf", "coarse", "library", "log_otf", "log_otf_and_slopes"]

# |ĥ|² is not trusted below this: rounding, and the truncation of the PSF's window.
_OTF_FLOOR = 1e-6
# Radius of validity of the linear model, relative to the prior scale
# (docs/decisions/0173-cost-of-a-field.md).
_LINEAR = 0.1
# Library points that are computed at a time: more exceed the processor's cache.
_BATCH = 64


def log_otf(family: BlurFamily, gamma: torch.Tensor) -> torch.Tensor:
    """Return log|ĥ_γ|² (S, N) of (S, P) coefficients, over all N bins.

    As it appears in a windowed spectrum: |ĥ|² averaged over the neighbouring
    frequencies that the window mixes, which fills its zeros.
    """
    otf = torch.fft.rfft2(coarse(family).psf(gamma), s=(WINDOW, WINDOW))
    power = windowed(otf.real**2 + otf.imag**2)
    return power.add_(_OTF_FLOOR).log_().flatten(1)


def log_otf_and_slopes(
    family: BlurFamily, gamma: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log|ĥ_γ|² (S, N) and its derivatives in γ (S, P, N)."""
    psf, slope = coarse(family).psf_and_jacobian(gamma)
    otf = torch.fft.rfft2(psf, s=(WINDOW, WINDOW))
    slopes = torch.fft.rfft2(slope, s=(WINDOW, WINDOW))
    power = windowed(otf.real**2 + otf.imag**2) + _OTF_FLOOR
    change = windowed(2 * (otf.conj()[:, None] * slopes).real) / power[:, None]
    return torch.log(power).flatten(1), change.flatten(2)


@dataclass(frozen=True)
class LinearOtf:
    """A linear model of log|ĥ_γ|² near S blurs: PSFs and their derivatives are costly.

    Parameters
    ----------
    at
        (S, P) γ.
    logs, slopes
        (S, N) and (S, P, N) there, N the bins that a fit uses.
    scale
        (P,) the family's prior scale.
    """

    at: torch.Tensor
    logs: torch.Tensor
    slopes: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def near(
        cls, family: BlurFamily, gamma: torch.Tensor, keep: torch.Tensor
    ) -> LinearOtf:
        """Return the model near γ (S, P); `keep` is the mask of the bins it has."""
        scale = torch.as_tensor(family.prior.scale).to(gamma)
        logs, slopes = log_otf_and_slopes(family, gamma)
        return cls(gamma, logs[:, keep], slopes[..., keep], scale)

    def covers(self, gamma: torch.Tensor, radius: float = _LINEAR) -> bool:
        """Return whether γ (S, P) is within `radius`, relative to the prior scale."""
        if gamma.shape != self.at.shape:
            return False
        return not bool(self.left(gamma, radius).any())

    def left(self, gamma: torch.Tensor, radius: float = _LINEAR) -> torch.Tensor:
        """Return the mask (S,) of the γ (S, P) that are not within `radius`."""
        # Negated, so that a γ that is not finite is not within it either.
        away: torch.Tensor = ((gamma - self.at) / self.scale).norm(dim=1)
        return ~(away < radius)

    def renewed(
        self,
        family: BlurFamily,
        gamma: torch.Tensor,
        keep: torch.Tensor,
        which: torch.Tensor,
    ) -> LinearOtf:
        """Return the model, with the blurs of the mask `which` (S,) updated near γ."""
        new = LinearOtf.near(family, gamma[which], keep)
        at, logs, slopes = self.at.clone(), self.logs.clone(), self.slopes.clone()
        at[which], logs[which], slopes[which] = new.at, new.logs, new.slopes
        return LinearOtf(at, logs, slopes, self.scale)

    def __call__(self, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log|ĥ|² (S, N) and its derivatives (S, P, N) at γ (S, P)."""
        change = ((gamma - self.at)[:, None] @ self.slopes)[:, 0]
        return self.logs + change, self.slopes


@lru_cache(maxsize=8)
def coarse(family: BlurFamily) -> BlurFamily:
    """Return the family's coarse version, made once."""
    return family.coarse()


@lru_cache(maxsize=8)
def library(family: BlurFamily, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random coefficients (size, P) of a family and their log|ĥ|² (size, N)."""
    gamma = family.search_points(size, torch.Generator().manual_seed(0))
    logs = torch.empty(size, WINDOW * (WINDOW // 2 + 1))
    for at, into in zip(
        torch.split(gamma, _BATCH), torch.split(logs, _BATCH), strict=True
    ):
        into.copy_(log_otf(family, at))
    return gamma, logs
