"""What a blur does to a spectrum: log|ĥ|², its slopes, and a library of them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from deepblur_live.identification.spectrum import WINDOW, windowed

if TYPE_CHECKING:
    from deepblur_live.optics import ZernikeFamily

__all__ = ["coarse", "library", "log_otf", "log_otf_and_slopes"]

# Half the usual pupil samples are 55 dB true, better than any frame tells a PSF, and
# cost a quarter.
_PUPIL_SAMPLES = 63
# |ĥ|² is never trusted below this: rounding, and what the PSF's window cuts.
_OTF_FLOOR = 1e-6
# So many of a library are made at a time: more leave the processor's cache.
_AT_ONCE = 64


def log_otf(family: ZernikeFamily, gamma: torch.Tensor) -> torch.Tensor:
    """Return log|ĥ_γ|² (S, N) of (S, P) coefficients, over all N bins.

    As a spectrum shows it: |ĥ|² averaged over the neighbouring frequencies that the
    window mixes. The notches between, which tell the blur, are filled so.
    """
    otf = torch.fft.rfft2(coarse(family).psf(gamma), s=(WINDOW, WINDOW))
    return torch.log(windowed(otf.real**2 + otf.imag**2) + _OTF_FLOOR).flatten(1)


def log_otf_and_slopes(
    family: ZernikeFamily, gamma: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log|ĥ_γ|² (S, N) and its derivatives in γ (S, P, N)."""
    psf, slope = coarse(family).psf_and_jacobian(gamma)
    otf = torch.fft.rfft2(psf, s=(WINDOW, WINDOW))
    slopes = torch.fft.rfft2(slope, s=(WINDOW, WINDOW))
    power = windowed(otf.real**2 + otf.imag**2) + _OTF_FLOOR
    change = windowed(2 * (otf.conj()[:, None] * slopes).real) / power[:, None]
    return torch.log(power).flatten(1), change.flatten(2)


@lru_cache(maxsize=8)
def coarse(family: ZernikeFamily) -> ZernikeFamily:
    """Return a family with as few samples of the pupil as a fit needs."""
    return replace(family, pupil_samples=min(family.pupil_samples, _PUPIL_SAMPLES))


@lru_cache(maxsize=4)
def library(family: ZernikeFamily, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random coefficients (size, P) of a family and their log|ĥ|² (size, N)."""
    generator = torch.Generator().manual_seed(0)
    half = size // 2
    gamma = torch.cat(
        [family.sample(half, generator), family.sample_rms(size - half, generator)]
    )
    parts = [log_otf(family, part) for part in torch.split(gamma, _AT_ONCE)]
    return gamma, torch.cat(parts)
