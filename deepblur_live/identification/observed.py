"""What a fit sees of an average spectrum: its logarithm, weights, prior and floor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from deepblur_live.identification.reliability import Reliable, reliable
from deepblur_live.identification.spectrum import (
    WINDOW,
    frequencies,
    has_corner,
    smoothed,
)

if TYPE_CHECKING:
    from deepblur_live.identification.specimen import SpecimenSpectrum

__all__ = ["LEAKAGE", "ObservedSpectrum", "observe", "with_leakage"]

LEAKAGE = 1e-7
"""Of the window, relative to the strongest frequency."""

# A dark frame has no power at all, and no logarithm of it.
_LEAST_POWER = 1e-30
# How well the noise floor is known beforehand, relative: from a calibrated camera, from
# the corner of the spectrum, or bounded by its weakest frequencies.
_FLOOR_CALIBRATED, _FLOOR_READ, _FLOOR_BOUNDED = 0.05, 0.1, 1.0


@dataclass(frozen=True)
class ObservedSpectrum:
    """A spectrum as the fit sees it, over the N bins that are kept.

    Parameters
    ----------
    log_power, weight
        (N,) the logarithm, and one over its standard deviation.
    mean, basis
        (N,) and (N, Q) of the specimen's own log-spectrum, as in `SpecimenSpectrum`.
    keep
        Which of all bins the N are.
    log_floor, floor_sigma
        Prior mean and standard deviation of the noise's log σ².
    reliable
        The part that rises above the noise, over all bins.
    looks
        Independent windows in the average, over all frames and in the mean of the bins.
    """

    log_power: torch.Tensor
    weight: torch.Tensor
    mean: torch.Tensor
    basis: torch.Tensor
    keep: torch.Tensor
    log_floor: float
    floor_sigma: float
    reliable: Reliable
    looks: float


def observe(
    spectrum: torch.Tensor,
    looks: float | torch.Tensor,
    frames: float,
    cutoff: float,
    specimen: SpecimenSpectrum,
    noise_variance: float | None = None,
) -> ObservedSpectrum:
    """Take the logarithm of an average spectrum (W, W//2+1) and weigh its bins.

    The parameters are those of `reliability.reliable`, and the specimen's prior.
    """
    spectrum = with_leakage(spectrum)
    found = reliable(spectrum, looks, frames, cutoff, noise_variance)
    keep = _different(spectrum.device)
    # The signal's share decides how much the model's error counts. Of the raw spectrum
    # it would be biased bin by bin: smoothed, it hardly is.
    share = (1 - found.floor / smoothed(spectrum)).clamp(0, 1)
    strays = specimen.deviation.view_as(share) * share
    weight = 1 / torch.sqrt(1 / (looks * frames) + strays**2)
    if noise_variance is not None:
        floor_sigma = _FLOOR_CALIBRATED
    else:
        floor_sigma = _FLOOR_READ if has_corner(cutoff) else _FLOOR_BOUNDED
    return ObservedSpectrum(
        torch.log(spectrum.clamp(min=_LEAST_POWER)).flatten()[keep],
        weight.flatten()[keep],
        specimen.mean[keep],
        # Pattern after pattern in memory: the fit takes them so.
        specimen.basis.T[:, keep].T,
        keep,
        math.log(max(float(found.floor), _LEAST_POWER)),
        floor_sigma,
        found,
        float(torch.as_tensor(looks).mean()) * frames,
    )


def with_leakage(spectrum: torch.Tensor) -> torch.Tensor:
    """Return a spectrum (W, W//2+1) that is nowhere below what leaks from its peak.

    Below any camera's noise leakage and rounding rule, and they are not white.
    """
    return spectrum + LEAKAGE * spectrum.amax()


@lru_cache(maxsize=8)
def _different(device: torch.device) -> torch.Tensor:
    """Return which of all bins a fit uses: each frequency once, none near zero."""
    radius, _ = frequencies(device)
    keep = radius > 1.2 / WINDOW
    # f and -f are both in the half spectrum's first and last columns.
    keep[WINDOW // 2 + 1 :, [0, -1]] = False
    return keep.flatten()
