"""An average spectrum as data of a fit: its logarithm, weights, prior and floor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from deepblur_live.identification.signal_bins import SignalBins, signal_bins
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
"""Leakage of the window, relative to the strongest frequency."""

# A dark frame has no power, whose logarithm must be finite.
_LEAST_POWER = 1e-30
# Relative prior uncertainty of the noise floor: from a calibrated camera, measured in
# the corner of the spectrum, or bounded by its weakest frequencies.
_FLOOR_CALIBRATED, _FLOOR_MEASURED, _FLOOR_BOUNDED = 0.05, 0.1, 1.0


@dataclass(frozen=True)
class ObservedSpectrum:
    """A spectrum as data of a fit, over the N bins that are used.

    Or C spectra, where (C,) precedes the shape of `log_power`, `weight` and the floor.

    Parameters
    ----------
    log_power, weight
        (N,) the logarithm, and the inverse of its standard deviation.
    mean, basis
        (N,) and (N, Q) of the specimen's own log-spectrum, as in `SpecimenSpectrum`.
    keep
        Mask of the N bins among all.
    log_floor, floor_sigma
        Prior mean and standard deviation of the noise's log σ².
    signal
        The part above the noise, over all bins.
    averages
        Effective number of averages over windows and frames, mean over the bins.
    """

    log_power: torch.Tensor
    weight: torch.Tensor
    mean: torch.Tensor
    basis: torch.Tensor
    keep: torch.Tensor
    log_floor: float | torch.Tensor
    floor_sigma: float
    signal: SignalBins
    averages: float


def observe(
    spectrum: torch.Tensor,
    averages: float | torch.Tensor,
    frames: float,
    cutoff: float,
    specimen: SpecimenSpectrum,
    noise_variance: float | torch.Tensor | None = None,
) -> ObservedSpectrum:
    """Take the logarithm of average spectra (..., W, W//2+1) and weight their bins.

    The parameters are those of `signal_bins`, and the specimen's prior.
    """
    spectrum = with_leakage(spectrum)
    found = signal_bins(spectrum, averages, frames, cutoff, noise_variance)
    keep, kept = _different(spectrum.device)
    mean, basis = _prior_of(specimen)
    # The model's error counts in proportion to the signal's share, which would be
    # biased if it were taken from single bins.
    share = (1 - found.floor[..., None, None] / smoothed(spectrum)).clamp(0, 1)
    model_error = specimen.deviation.view(share.shape[-2:]) * share
    weight = 1 / torch.sqrt(1 / (averages * frames) + model_error**2)
    if noise_variance is not None:
        floor_sigma = _FLOOR_CALIBRATED
    else:
        floor_sigma = _FLOOR_MEASURED if has_corner(cutoff) else _FLOOR_BOUNDED
    log_floor: float | torch.Tensor
    if found.floor.ndim:
        log_floor = torch.log(found.floor.clamp(min=_LEAST_POWER))
    else:
        log_floor = math.log(max(float(found.floor), _LEAST_POWER))
    return ObservedSpectrum(
        torch.log(spectrum.clamp(min=_LEAST_POWER)).flatten(-2)[..., kept],
        weight.flatten(-2)[..., kept],
        mean,
        basis,
        keep,
        log_floor,
        floor_sigma,
        found,
        float(torch.as_tensor(averages).mean()) * frames,
    )


def with_leakage(spectrum: torch.Tensor) -> torch.Tensor:
    """Return spectra (..., W, W//2+1) with the window's leakage as a lower limit.

    Below any camera's noise, leakage and rounding dominate, and they are not white.
    """
    return spectrum + LEAKAGE * spectrum.amax((-2, -1), keepdim=True)


@lru_cache(maxsize=8)
def _different(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mask of the bins that a fit uses, and their indices.

    Each frequency once, none near 0.
    """
    radius, _ = frequencies(device)
    keep = radius > 1.2 / WINDOW
    # The first and last columns of the half spectrum contain both f and -f.
    keep[WINDOW // 2 + 1 :, [0, -1]] = False
    keep = keep.flatten()
    return keep, keep.nonzero()[:, 0]


@lru_cache(maxsize=4)
def _prior_of(specimen: SpecimenSpectrum) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean (N,) and basis (N, Q) of a specimen at the bins that a fit uses."""
    keep, _ = _different(specimen.mean.device)
    # Contiguous per pattern, as the fit reads them.
    return specimen.mean[keep], specimen.basis.T[:, keep].T
