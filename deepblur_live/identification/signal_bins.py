"""The part of a spectrum above the noise: input of the network and the library."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from deepblur_live.identification.spectrum import WINDOW, frequencies, noise_floor

__all__ = ["SignalBins", "signal_bins"]

# Deviation of the logarithm of a real specimen's spectrum from a smooth surface. This
# rough value weights the network's input and the library; the fit has its own.
_MODEL_ERROR = 0.3


@dataclass(frozen=True)
class SignalBins:
    """The part of a spectrum that exceeds the noise.

    Parameters
    ----------
    log_signal
        (..., W, W//2+1) log(S_y - σ²), 0 where not usable.
    weight
        Inverse of its standard deviation, 0 where not usable.
    floor
        (...) the noise's σ², in the image's units squared.
    """

    log_signal: torch.Tensor
    weight: torch.Tensor
    floor: torch.Tensor

    @property
    def bins(self) -> torch.Tensor:
        """(...) number of usable bins."""
        return (self.weight > 0).sum((-2, -1))


def signal_bins(
    spectrum: torch.Tensor,
    averages: float | torch.Tensor,
    frames: float,
    cutoff: float,
    noise_variance: float | torch.Tensor | None = None,
) -> SignalBins:
    """Determine the noise floor and the bins above it.

    Parameters
    ----------
    spectrum
        (..., W, W//2+1), an average over windows and frames.
    averages, frames
        Effective number of averages over a frame's windows (one number, or one per
        bin), and number of frames.
    cutoff
        Coherent cut-off in cycles per pixel: beyond twice that there is only noise.
    noise_variance
        The camera's, where it is calibrated. Without it, and without frequencies beyond
        the OTF (`has_corner`), the noise is only bounded from above.
    """
    radius, _ = frequencies(spectrum.device)
    floor = noise_floor(spectrum, averages * frames, cutoff, noise_variance)
    floor = floor[..., None, None]
    signal = spectrum - floor
    usable = (
        (signal > 2 * floor / math.sqrt(frames))
        & (radius > 1.2 / WINDOW)
        & (radius < 2 * cutoff)
    )
    signal = torch.where(usable, signal, torch.ones_like(signal))
    spread = spectrum / signal / torch.as_tensor(averages * frames).sqrt()
    weight = usable / torch.sqrt(spread**2 + _MODEL_ERROR**2)
    return SignalBins(torch.log(signal) * usable, weight, floor[..., 0, 0])
