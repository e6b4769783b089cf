"""A frame's power spectrum: an average over its windows (Welch), all alike or weighed.

The windowed spectrum of a blurred frame is nearly S_x(f)·|ĥ(f)|² + σ². Where it rises
above the noise, its logarithm is the specimen's smooth spectrum plus log|ĥ|², whose
notches tell the blur. Windows without detail add noise alone, and count for less where
that is the trouble.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

__all__ = [
    "WINDOW",
    "FrameSpectrum",
    "frequencies",
    "has_corner",
    "noise_floor",
    "smoothed",
    "weighed",
    "welch",
    "windowed",
]

WINDOW = 64
# Half-overlapping Hann windows share little: measured on white noise, a window of a
# large frame counts 0.9.
_LOOKS_PER_WINDOW = 0.9
# A window's detail is its power over the noise's at these cycles a pixel, where every
# blur leaves most of it, less what noise alone seldom exceeds (`_NOISE_ALONE`). Well
# below `_NOISY` windows count by the square root of their detail, and all alike above:
# to count by the detail itself would leave too few of them, and few parts of a specimen
# stray more from what specimens have in common. No window has less detail than
# `_LEAST_DETAIL`, nor than `_LEAST_SHARE` of the mean.
_DETAIL_BAND = (0.05, 0.12)
_NOISY, _NOISE_ALONE, _LEAST_DETAIL, _LEAST_SHARE = 100.0, 1.5, 0.5, 0.05


@lru_cache(maxsize=8)
def frequencies(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return |f| (cycles a pixel) and the angle (radians) of the bins, (W, W//2+1)."""
    fy = torch.fft.fftfreq(WINDOW, device=device)[:, None]
    fx = torch.fft.rfftfreq(WINDOW, device=device)[None]
    return torch.hypot(fy, fx).clamp(min=0.5 / WINDOW), torch.atan2(fy, fx)


@lru_cache(maxsize=8)
def _hann(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    line = torch.hann_window(WINDOW, dtype=dtype, device=device)
    window = line[:, None] * line[None]
    return window / (window**2).mean().sqrt()


def windowed(power: torch.Tensor) -> torch.Tensor:
    """Return a power spectrum (..., W, W//2+1) as a Hann window shows it.

    A Hann window's own spectrum has amplitudes of -1/4, 1/2, -1/4 along each axis, so
    it mixes a frequency's power and its neighbours' as 1 : 4 : 1.
    """
    rows = (power.roll(1, -2) + power.roll(-1, -2)) / 6 + power * (2 / 3)
    # A real image has the same power at f and -f: beyond the first and the last column.
    beyond = rows.flip(-2).roll(1, -2)
    wide = torch.cat([beyond[..., 1:2], rows, beyond[..., -2:-1]], -1)
    return (wide[..., :-2] + wide[..., 2:]) / 6 + rows * (2 / 3)


def _powers(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
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
    spectra = torch.fft.rfft2((windows - means) * _hann(image.dtype, image.device))
    power = (spectra.real**2 + spectra.imag**2) / WINDOW**2
    return power.flatten(-4, -3), means.flatten(-4)


def welch(image: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the power spectrum (..., W, W//2+1) of images (..., H, W) and its looks.

    White noise of variance σ² has the spectrum σ². Looks is the number of independent
    windows in the average.

    Raises
    ------
    ValueError
        When the image is smaller than one window.
    """
    power, _ = _powers(image)
    return power.mean(-3), max(1.0, power.shape[-3] * _LOOKS_PER_WINDOW)


def smoothed(spectrum: torch.Tensor) -> torch.Tensor:
    """Return the mean over 3 × 3 bins of (W, W//2+1); the rows wrap round."""
    wrapped = torch.cat([spectrum[-1:], spectrum, spectrum[:1]])[None, None]
    padded = torch.nn.functional.pad(wrapped, (1, 1, 0, 0), mode="reflect")
    return torch.nn.functional.avg_pool2d(padded, 3, 1)[0, 0]


def has_corner(cutoff: float) -> bool:
    """Return whether a spectrum has frequencies beyond the OTF, which hold noise only.

    Below about 3 pixels for λ/(NA·px) it has none.
    """
    radius, _ = frequencies(torch.device("cpu"))
    return int((radius > 2 * cutoff * 1.04).sum()) >= 12


def noise_floor(
    spectrum: torch.Tensor,
    looks: float | torch.Tensor,
    cutoff: float,
    known: float | None = None,
) -> torch.Tensor:
    """Return the noise's σ² (...) as a spectrum (..., W, W//2+1) shows it.

    Read from the frequencies beyond the OTF; where there are none (`has_corner`) the
    noise is but bounded.

    Parameters
    ----------
    spectrum
        The average.
    looks
        Independent windows in it, over all frames: one number, or one for each bin.
    cutoff
        Pupil radius NA·px/λ in cycles a pixel.
    known
        A calibrated camera's σ².
    """
    radius, _ = frequencies(spectrum.device)
    corner = radius > 2 * cutoff * 1.04
    if known is not None:
        floor = spectrum.new_full(spectrum.shape[:-2], known)
    elif has_corner(cutoff):
        if isinstance(looks, torch.Tensor):
            looks = float(looks[corner].mean())
        # The median of an average of n exponentials is (1 - 1/(9n))³ of its mean
        # (Wilson & Hilferty 1931).
        below = (1 - 1 / (9 * looks)) ** 3
        floor = spectrum[..., corner].median(-1).values / below
    else:
        # Signal everywhere: the weakest frequencies bound the noise from above.
        floor = spectrum.flatten(-2).quantile(0.02, -1)
    # A noiseless spectrum still ends at the precision of its numbers.
    return torch.maximum(floor, 1e-9 * spectrum.amax((-2, -1)))


@dataclass(frozen=True)
class FrameSpectrum:
    """What one frame's windows show.

    Parameters
    ----------
    power, looks, level
        (W, W//2+1) their spectra's average, weighed; (W, W//2+1) how many independent
        windows that is worth, which are fewer where the specimen makes the power, as a
        few windows have most of it; and the frame's brightness, weighed alike: a
        camera's shot noise in `power` is that of so much light.
    plain, plain_looks
        The average, and the number, with every window alike.
    """

    power: torch.Tensor
    looks: torch.Tensor
    level: float
    plain: torch.Tensor
    plain_looks: float

    @property
    def is_finite(self) -> bool:
        """Whether no number in it has overflowed."""
        arrays = torch.stack([self.power, self.looks, self.plain])
        return bool(torch.isfinite(arrays).all())

    def times(self, factor: float) -> FrameSpectrum:
        """Return all of it times a factor."""
        return FrameSpectrum(*(factor * part for part in self._parts))

    def plus(self, other: FrameSpectrum) -> FrameSpectrum:
        """Return the sum with another's."""
        parts = zip(self._parts, other._parts, strict=True)
        return FrameSpectrum(*(mine + theirs for mine, theirs in parts))

    @property
    def _parts(self) -> tuple[Any, ...]:
        return self.power, self.looks, self.level, self.plain, self.plain_looks


def weighed(image: torch.Tensor, cutoff: float, frames: float = 1.0) -> FrameSpectrum:
    """Return the spectrum of an image (H, W), its windows weighed by their detail.

    The weighted spectrum of a blurred frame is S_x(f)·|ĥ(f)|² + σ² as well, with the
    S_x of the windows that count.

    Parameters
    ----------
    image
        The frame, scaled.
    cutoff
        Pupil radius NA·px/λ in cycles a pixel.
    frames
        How many frames it will be averaged with: they leave less of the noise.

    Raises
    ------
    ValueError
        When the image is smaller than one window.
    """
    power, means = _powers(image)
    plain = power.mean(0)
    plain_looks = max(1.0, len(power) * _LOOKS_PER_WINDOW)
    floor = noise_floor(plain, plain_looks, cutoff)
    floor = floor.clamp(min=torch.finfo(floor.dtype).tiny)
    radius, _ = frequencies(image.device)
    band = ((radius > _DETAIL_BAND[0]) & (radius < _DETAIL_BAND[1])).to(power.dtype)
    detail = torch.tensordot(power, band / band.sum(), 2) / floor - _NOISE_ALONE
    detail = detail.clamp(min=0)
    detail = detail + _LEAST_SHARE * detail.mean() + _LEAST_DETAIL
    weight = torch.sqrt(detail / (detail + _NOISY / math.sqrt(frames)))
    weight = weight / weight.sum()
    # A window strays by as much as it is expected to show, here over the noise.
    signal = (smoothed(plain) / floor - 1).clamp(min=0)
    share, square = detail / detail.mean(), weight**2
    seen = signal * (weight @ share) + 1
    strays = (
        signal**2 * (square @ share**2) + 2 * signal * (square @ share) + square.sum()
    )
    looks = (_LOOKS_PER_WINDOW * seen**2 / strays).clamp(min=1)
    # One transfer from a card.
    made = torch.stack([torch.tensordot(weight, power, 1), looks, plain]).cpu()
    return FrameSpectrum(made[0], made[1], float(weight @ means), made[2], plain_looks)
