"""The camera's noise, measured from one frame beyond the optics' cut-off.

No lens passes light at these frequencies: what is there is noise. Where the frame is
brighter there is more of it, so windows of different brightness give the line in the
light that `NoiseModel` describes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.optics.noise import NoiseModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["contradiction", "measure_noise"]

# Side of the windows in pixels; frame side below which they overlap by half; number of
# windows beyond which more add nothing.
_WINDOW, _OVERLAPPING, _MOST = 64, 512, 400
# Frequencies from here on, over the cut-off: the taper leaks a little beyond it; and
# the fewest bins to measure in.
_BEYOND, _FEWEST = 1.04, 12
# Bins of a Hann window that count as one: neighbours are correlated.
_CORRELATED = 2.25
# Iterations of the fit; deviation from which a window gets less weight.
_ITERATIONS, _ROBUST = 8, 3.0
# A slope of fewer standard deviations is no evidence of shot noise.
_EVIDENT = 3.0
# The darkest light is the least mean over squares of this side in pixels.
_DARK_SIDE = 8
# Calibration and measurement disagree from this ratio of variances on.
_CONTRADICTION = 2.0
_TINY = 1e-30


@dataclass(frozen=True)
class _Beyond:
    """What a frame's N windows have beyond the cut-off.

    Parameters
    ----------
    bins
        (W·(W//2+1),) which of it lies beyond the cut-off.
    variance, light
        (N,) of the noise, and the mean light it belongs to.
    """

    bins: torch.Tensor
    variance: torch.Tensor
    light: torch.Tensor


def measure_noise(
    image: torch.Tensor, cutoff: float, least: float = 0.0
) -> NoiseModel | None:
    """Return the noise of one frame (H, W), or None where it cannot be measured.

    The variance is a line in the light, fitted to the frame's windows. It is constant
    (white noise) where the brightness of the windows differs too little.

    Parameters
    ----------
    image
        The frame, in any linear unit.
    cutoff
        Coherent cut-off in cycles per pixel. Where too few frequencies lie beyond twice
        this (λ/(NA·px) below about 3 pixels) the result is None: noise cannot be
        separated from detail.
    least
        Least variance, in the image's unit squared: rounding to grey values that are s
        apart has s²/12.

    Returns
    -------
    NoiseModel
        Noise of one frame, B = 1, or None.

    Notes
    -----
    Accuracy and cost: docs/decisions/0157-noise-from-one-frame.md.
    """
    beyond = _beyond(image, cutoff)
    if beyond is None:
        return None
    variance = beyond.variance.double().cpu().numpy()
    if not np.isfinite(variance).all():
        return None
    deviation = math.sqrt(_CORRELATED / int(beyond.bins.sum()))
    dark = _darkest(image)
    light = beyond.light.double().cpu().numpy() - dark
    slope, base = _line(light, variance, deviation, least)
    # The line is not extrapolated below the darkest part of the frame.
    values = (slope, base - slope * dark, base)
    return NoiseModel(*(image.new_tensor([value]) for value in values))


def contradiction(
    calibrated: NoiseModel, measured: NoiseModel, image: torch.Tensor
) -> str:
    """Return how a camera's calibration contradicts a frame's noise, or "".

    Compares the mean variance over the frame.

    Parameters
    ----------
    calibrated, measured
        From gain, offset and read noise; and from `measure_noise`. Of one frame each.
    image
        (H, W) the frame, in the unit of both.
    """
    means = []
    for model in (calibrated, measured):
        variance = model.map(image[None]).square().mean()
        if not bool(torch.isfinite(variance)) or float(variance) < 0:
            return "the camera's calibration gives no noise: check gain and offset"
        means.append(float(variance))
    stated, found = means
    if found > _CONTRADICTION * stated:
        much, word = found / max(stated, _TINY), "higher"
    elif stated > _CONTRADICTION * found:
        much, word = stated / max(found, _TINY), "lower"
    else:
        return ""
    return (
        f"the frame's noise is {math.sqrt(much):.1f} times {word} than the camera's "
        "calibration states: check gain, offset and read noise, and use raw frames"
    )


@lru_cache(maxsize=1)
def _axes() -> tuple[torch.Tensor, torch.Tensor]:
    """Return |f| along rows and along columns (W, W//2+1), cycles per pixel."""
    down = torch.fft.fftfreq(_WINDOW).abs()[:, None].expand(-1, _WINDOW // 2 + 1)
    across = torch.fft.rfftfreq(_WINDOW)[None].expand(_WINDOW, -1)
    return across, down


@lru_cache(maxsize=8)
def _bins(cutoff: float) -> torch.Tensor:
    """Return the mask (W, W//2+1) of the frequencies that no lens passes."""
    return torch.hypot(*_axes()) > 2 * cutoff * _BEYOND


def _beyond(image: torch.Tensor, cutoff: float) -> _Beyond | None:
    """Return the power of a frame's windows beyond the cut-off, if it has any."""
    bins = _bins(cutoff)
    if int(bins.sum()) < _FEWEST or min(image.shape) < _WINDOW:
        return None
    step = _WINDOW if min(image.shape) >= _OVERLAPPING else _WINDOW // 2
    windows = image.unfold(0, _WINDOW, step).unfold(1, _WINDOW, step).flatten(0, 1)
    windows = windows[:: math.ceil(len(windows) / _MOST)]
    line = torch.hann_window(_WINDOW, dtype=image.dtype, device=image.device)
    taper = line[:, None] * line
    taper = taper / taper.square().mean().sqrt()
    level = windows.mean((1, 2), keepdim=True)
    tapered = (windows - level) * taper
    # The light that the tapered window's noise belongs to.
    light = (tapered * taper).mean((1, 2)) + level[:, 0, 0]
    spectra = torch.fft.rfft2(tapered, norm="ortho").flatten(1)
    power = spectra.real.square().addcmul_(spectra.imag, spectra.imag)
    bins = bins.flatten().to(image.device)
    share = bins.to(power.dtype) / bins.sum()
    return _Beyond(bins, power @ share, light)


def _darkest(image: torch.Tensor) -> float:
    """Return the least mean light of the small blocks of an image (H, W)."""
    rows, columns = (size // _DARK_SIDE for size in image.shape)
    part = image[: rows * _DARK_SIDE, : columns * _DARK_SIDE]
    blocks = part.reshape(rows, _DARK_SIDE, columns, _DARK_SIDE)
    return float(blocks.mean((1, 3)).amin())


def _line(
    light: NDArray[np.float64],
    variance: NDArray[np.float64],
    deviation: float,
    least: float,
) -> tuple[float, float]:
    """Return slope ≥ 0, and variance ≥ `least` at light 0, of a robust line.

    The standard deviation of a window's variance is a share of its expectation.
    """
    expected = np.full_like(variance, max(float(np.median(variance)), _TINY))
    slope = base = 0.0
    for iteration in range(_ITERATIONS):
        weight = 1 / expected**2
        if iteration:
            off = np.abs(variance - expected) / (deviation * expected)
            weight = weight * (_ROBUST / off.clip(min=_ROBUST))
        weight = weight / weight.sum()
        slope, base = 0.0, max(float(weight @ variance), least)
        centre = weight @ light
        spread = weight @ (light - centre) ** 2
        if spread > 0:
            # Slope and base are sums over independent windows.
            tilt = weight * (light - centre) / spread
            both = np.stack([tilt, weight - centre * tilt])
            values = both @ variance
            errors = np.sqrt(((both * deviation * expected) ** 2).sum(1))
            if values[0] > _EVIDENT * errors[0]:
                # A dark variance smaller than its error is not known.
                base = max(float(values[1]), float(errors[1]), least)
                moments = weight @ (light * (variance - base)), weight @ light**2
                slope = max(0.0, float(moments[0] / moments[1]))
        expected = (slope * light + base).clip(min=_TINY)
    return slope, base
