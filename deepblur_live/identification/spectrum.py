"""A frame's power spectrum: Welch's average over windows, equal or weighted.

The windowed spectrum of a blurred frame is nearly S_x(f)·|ĥ(f)|² + σ². Where it
exceeds the noise, its logarithm is the specimen's smooth spectrum plus log|ĥ|², whose
minima identify the blur. Windows without detail contribute only noise, and get less
weight where noise dominates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import torch

__all__ = [
    "AVERAGES_PER_WINDOW",
    "WINDOW",
    "FrameSpectrum",
    "beyond_otf",
    "detail_band",
    "detail_weights",
    "frequencies",
    "has_corner",
    "noise_floor",
    "smoothed",
    "weighted",
    "weighted_windows",
    "welch",
    "window_powers",
    "windowed",
]

WINDOW = 64
AVERAGES_PER_WINDOW = 0.9
"""Effective averages per half-overlapping Hann window, measured on white noise in large
frames."""
# A window's detail is its power over the noise's between these frequencies (cycles per
# pixel), where every blur leaves most of it, minus what noise alone seldom exceeds
# (`_NOISE_ALONE`). Windows are weighted by the square root of their detail where it is
# well below `_NOISY`, and equally above. (Weights proportional to the detail leave too
# few windows.) Detail is at least `_LEAST_DETAIL`, and `_LEAST_SHARE` of the mean.
_DETAIL_BAND = (0.05, 0.12)
_NOISY, _NOISE_ALONE, _LEAST_DETAIL, _LEAST_SHARE = 100.0, 1.5, 0.5, 0.05


@lru_cache(maxsize=8)
def frequencies(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return |f| (cycles per pixel) and the angle (radians) of the bins (W, W//2+1)."""
    fy = torch.fft.fftfreq(WINDOW, device=device)[:, None]
    fx = torch.fft.rfftfreq(WINDOW, device=device)[None]
    return torch.hypot(fy, fx).clamp(min=0.5 / WINDOW), torch.atan2(fy, fx)


@lru_cache(maxsize=8)
def _hann(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    line = torch.hann_window(WINDOW, dtype=dtype, device=device)
    window = line[:, None] * line[None]
    return window / (window**2).mean().sqrt()


def windowed(power: torch.Tensor) -> torch.Tensor:
    """Return a power spectrum (..., W, W//2+1) convolved with that of a Hann window.

    Its amplitudes are -1/4, 1/2, -1/4 along each axis, so the power of a frequency and
    its neighbours mixes as 1 : 4 : 1.
    """
    # In place: these are many frequencies of many blurs.
    rows = power.roll(1, -2).add_(power.roll(-1, -2)).div_(6).add_(power * (2 / 3))
    # Beyond the first and last column: a real image has the same power at f and -f.
    beyond = rows.flip(-2).roll(1, -2)
    wide = torch.cat([beyond[..., 1:2], rows, beyond[..., -2:-1]], -1)
    mixed = (wide[..., :-2] + wide[..., 2:]).div_(6)
    return mixed.add_(rows.mul_(2 / 3))


def window_powers(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the windows' spectra (..., T, W, W//2+1) and means (..., T) of images.

    Raises
    ------
    ValueError
        When the images (..., H, W) are smaller than one window.
    """
    if min(image.shape[-2:]) < WINDOW:
        raise ValueError(
            f"an image of {image.shape[-2]} × {image.shape[-1]} pixels is smaller than "
            f"one window of {WINDOW} × {WINDOW}"
        )
    windows = image.unfold(-2, WINDOW, WINDOW // 2).unfold(-2, WINDOW, WINDOW // 2)
    means = windows.mean((-2, -1), keepdim=True)
    window = _hann(image.dtype, image.device) / WINDOW
    spectra = torch.fft.rfft2((windows - means).mul_(window))
    power = spectra.real.square().addcmul_(spectra.imag, spectra.imag)
    return power.flatten(-4, -3), means.flatten(-4)


def welch(image: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the power spectrum (..., W, W//2+1) of images (..., H, W).

    And its effective number of averages. White noise of variance σ² has the spectrum
    σ².

    Raises
    ------
    ValueError
        When the image is smaller than one window.
    """
    power, _ = window_powers(image)
    return power.mean(-3), max(1.0, power.shape[-3] * AVERAGES_PER_WINDOW)


def smoothed(spectrum: torch.Tensor) -> torch.Tensor:
    """Return the mean over 3 × 3 bins of (..., W, W//2+1); rows are periodic."""
    wide = torch.cat([spectrum[..., 1:2], spectrum, spectrum[..., -2:-1]], -1)
    along = (wide[..., :-2] + wide[..., 2:]).add_(spectrum)
    return (along.roll(1, -2) + along.roll(-1, -2)).add_(along).div_(9)


def has_corner(cutoff: float) -> bool:
    """Return whether a spectrum has frequencies beyond the OTF, with noise only.

    Not below about 3 pixels for λ/(NA·px).
    """
    return int(beyond_otf(cutoff, torch.device("cpu")).sum()) >= 12


def beyond_otf(cutoff: float, device: torch.device) -> torch.Tensor:
    """Return the mask (W, W//2+1) of the bins in which there is only noise."""
    radius, _ = frequencies(device)
    return radius > 2 * cutoff * 1.04


def detail_band(device: torch.device) -> torch.Tensor:
    """Return the mask (W, W//2+1) of the bins by which a window's detail is judged."""
    radius, _ = frequencies(device)
    return (radius > _DETAIL_BAND[0]) & (radius < _DETAIL_BAND[1])


def noise_floor(
    spectrum: torch.Tensor,
    averages: float | torch.Tensor,
    cutoff: float,
    known: float | torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the noise variance σ² (...) from a spectrum (..., W, W//2+1).

    Measured beyond the OTF; where there are no such frequencies (`has_corner`) the
    noise is only bounded from above.

    Parameters
    ----------
    spectrum
        The average.
    averages
        Effective number of averages over all frames: one number, or one per bin.
    cutoff
        Coherent cut-off in cycles per pixel.
    known
        A calibrated camera's σ², one number or (...).
    """
    corner = beyond_otf(cutoff, spectrum.device)
    if known is not None:
        floor = torch.as_tensor(known).to(spectrum).expand(spectrum.shape[:-2])
    elif has_corner(cutoff):
        if isinstance(averages, torch.Tensor):
            averages = averages[..., corner].mean(-1).double()
        # The median of an average of n exponentials is (1 - 1/(9n))³ of its mean
        # (Wilson & Hilferty 1931).
        below = torch.as_tensor((1 - 1 / (9 * averages)) ** 3).to(spectrum)
        floor = spectrum[..., corner].median(-1).values / below
    else:
        # Signal at all frequencies: the weakest bound the noise from above.
        floor = spectrum.flatten(-2).quantile(0.02, -1)
    # Without noise the floor is the numerical precision.
    return torch.maximum(floor, 1e-9 * spectrum.amax((-2, -1)))


@dataclass(frozen=True)
class FrameSpectrum:
    """The average spectrum of one frame's windows.

    Parameters
    ----------
    power
        (W, W//2+1) weighted average.
    averages
        (W, W//2+1) its effective number of averages; fewer where the specimen
        dominates, as few windows contribute most of the power.
    level
        The frame's brightness with the same weights, which determines the shot noise in
        `power`.
    plain, plain_averages
        The average, and the number, with equal weights.
    """

    power: torch.Tensor
    averages: torch.Tensor
    level: float
    plain: torch.Tensor
    plain_averages: float

    @property
    def is_finite(self) -> bool:
        """Whether no value in it has overflowed."""
        arrays = torch.stack([self.power, self.averages, self.plain])
        return bool(torch.isfinite(arrays).all())

    def times(self, factor: float) -> Self:
        """Return the spectrum times a factor."""
        return replace(self, **{f: factor * part for f, part in vars(self).items()})

    def plus(self, other: Self) -> Self:
        """Return the sum with another spectrum."""
        theirs = vars(other)
        return replace(self, **{f: p + theirs[f] for f, p in vars(self).items()})


def weighted(image: torch.Tensor, cutoff: float, frames: float = 1.0) -> FrameSpectrum:
    """Return the spectrum of an image (H, W), with windows weighted by their detail.

    It is S_x(f)·|ĥ(f)|² + σ² as well, S_x being the weighted spectrum of the specimen.

    Parameters
    ----------
    image
        The frame, scaled.
    cutoff
        Coherent cut-off in cycles per pixel.
    frames
        Number of frames it will be averaged with, which reduces the noise.

    Raises
    ------
    ValueError
        When the image is smaller than one window.
    """
    power, means = window_powers(image)
    return weighted_windows(power, means, cutoff, frames)


def weighted_windows(
    power: torch.Tensor, means: torch.Tensor, cutoff: float, frames: float = 1.0
) -> FrameSpectrum:
    """Return the spectrum of an image from `window_powers`, as in `weighted`."""
    plain = power.mean(0)
    floor = noise_floor(plain, len(power) * AVERAGES_PER_WINDOW, cutoff)
    everywhere = torch.ones(1, len(power), dtype=power.dtype, device=power.device)
    weight, averages = detail_weights(
        power, plain[None], floor[None], everywhere, frames
    )
    # A single transfer from a card.
    arrays = torch.stack(
        [torch.tensordot(weight[0], power, 1), averages[0], plain]
    ).cpu()
    level = float(weight[0] @ means)
    plain_averages = max(1.0, len(power) * AVERAGES_PER_WINDOW)
    return FrameSpectrum(arrays[0], arrays[1], level, arrays[2], plain_averages)


def detail_weights(
    power: torch.Tensor,
    plain: torch.Tensor,
    floor: torch.Tensor,
    members: torch.Tensor,
    frames: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the windows' weights (C, T) by their detail, and the numbers of averages.

    The latter are (C, W, W//2+1), of C weighted averages.

    Parameters
    ----------
    power
        (T, W, W//2+1) of the windows.
    plain, floor
        (C, W, W//2+1) averages with equal weights, and (C,) their noise.
    members
        (C, T), 1 for the windows that an average is made of, else 0.
    frames
        Number of frames it will be averaged with.
    """
    floor = floor.clamp(min=torch.finfo(floor.dtype).tiny)[:, None]
    band = detail_band(power.device).to(power.dtype)
    detail = torch.tensordot(power, band / band.sum(), 2) / floor - _NOISE_ALONE
    detail = detail.clamp(min=0) * members
    count = members.sum(1, keepdim=True)
    detail = detail + _LEAST_SHARE * (detail.sum(1, keepdim=True) / count)
    detail = (detail + _LEAST_DETAIL) * members
    weight = torch.sqrt(detail / (detail + _NOISY / math.sqrt(frames)))
    weight = weight / weight.sum(1, keepdim=True)
    # The standard deviation of a window's power is its mean, here over the noise.
    signal = (smoothed(plain) / floor[..., None] - 1).clamp(min=0)
    share, square = detail / (detail.sum(1, keepdim=True) / count), weight**2
    first, second, third, fourth = (
        total.sum(1)[:, None, None]
        for total in (weight * share, square * share**2, square * share, square)
    )
    mean = signal * first + 1
    variance = signal**2 * second + 2 * signal * third + fourth
    return weight, (AVERAGES_PER_WINDOW * mean**2 / variance).clamp(min=1)
