"""The part of a spectrum that rises above the noise: what network and library read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from deepblur_live.identification.spectrum import WINDOW, frequencies, noise_floor

__all__ = ["Reliable", "reliable"]

# How far the logarithm of a real specimen's spectrum strays from smooth. This rough
# figure weighs the network's input and the library's start; the fit has its own.
_MODEL_ERROR = 0.3


@dataclass(frozen=True)
class Reliable:
    """The part of a spectrum that rises above the noise.

    Parameters
    ----------
    log_signal
        (..., W, W//2+1) log(S_y - σ²), 0 where unreliable.
    weight
        One over its standard deviation, 0 where unreliable.
    floor
        (...) the noise's σ², in the image's units squared.
    """

    log_signal: torch.Tensor
    weight: torch.Tensor
    floor: torch.Tensor

    @property
    def bins(self) -> torch.Tensor:
        """(...) how many bins are reliable."""
        return (self.weight > 0).sum((-2, -1))


def reliable(
    spectrum: torch.Tensor,
    looks: float | torch.Tensor,
    frames: float,
    cutoff: float,
    noise_variance: float | None = None,
) -> Reliable:
    """Find the noise floor and what rises above it.

    Parameters
    ----------
    spectrum
        (..., W, W//2+1), an average over windows and frames.
    looks, frames
        Independent windows a frame (one number, or one for each bin), and frames, in
        the average.
    cutoff
        Pupil radius NA·px/λ in cycles a pixel: the OTF ends at twice that, and what
        lies beyond is noise.
    noise_variance
        The camera's, where it is calibrated. Where the OTF leaves no corner free
        (`has_corner`) the noise is but bounded without it.
    """
    radius, _ = frequencies(spectrum.device)
    floor = noise_floor(spectrum, looks * frames, cutoff, noise_variance)
    floor = floor[..., None, None]
    signal = spectrum - floor
    usable = (
        (signal > 2 * floor / math.sqrt(frames))
        & (radius > 1.2 / WINDOW)
        & (radius < 2 * cutoff)
    )
    signal = torch.where(usable, signal, torch.ones_like(signal))
    spread = spectrum / signal / torch.as_tensor(looks * frames).sqrt()
    weight = usable / torch.sqrt(spread**2 + _MODEL_ERROR**2)
    return Reliable(torch.log(signal) * usable, weight, floor[..., 0, 0])
