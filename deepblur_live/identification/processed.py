"""Whether a frame was processed after the camera: its blur and noise are then others.

A camera's noise is white and independent of the pixel grid, and beyond the limit of
the OTF there is nothing else. Filters, resampling, compression and reconstruction
leave traces there that do not depend on the blur or the specimen.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch

from deepblur_live.identification.observed import LEAKAGE
from deepblur_live.identification.spectrum import (
    AVERAGES_PER_WINDOW,
    beyond_otf,
    detail_band,
    frequencies,
    has_corner,
    window_powers,
)

__all__ = ["block_grid", "corner_slope", "detail_beyond", "processing", "row_shift"]

# See docs/decisions/0122-processed-frames.md
# Shift between odd and even lines, in pixels, and in its standard deviations.
_SHIFTED, _SIGNIFICANT = 0.5, 5.0
# Coarse frequencies along a line, cycles per pixel, that determine the shift.
_SHIFT_BAND = (0.01, 0.25)
# JPEG: relative excess of the share of small coefficients at the best of 64 grids,
# beyond this many standard deviations of chance.
_BLOCKY, _CHANCE = 0.5, 4.0
# Side of JPEG's blocks, number of the finest cosines along either side, and side of the
# part of a frame that is evaluated.
_BLOCK, _FINEST, _PART = 8, 3, 264
# Change of the logarithm of the noise over the frequencies beyond the OTF: this much,
# and this many standard deviations.
_COLOURED, _DEVIATIONS = 0.25, 4.0
# Detail beyond the limit: up to this multiple of it, compared with higher frequencies;
# by this much, and this many standard deviations; fewest frequencies on either side.
# See docs/decisions/0124-wrong-pixel-size.md
_INNER, _DETAIL, _CERTAIN, _FEWEST = 1.15, 0.1, 6.0, 6
# Neighbouring bins of a Hann window are correlated: this many count as one.
_CORRELATED = 2.25


def processing(image: torch.Tensor, cutoff: float) -> str:
    """Return how a frame (H, W) was processed after the camera, or "".

    Parameters
    ----------
    image
        The frame, on the CPU, scaled linearly.
    cutoff
        Coherent cut-off in cycles per pixel.
    """
    for lines, name in ((image, "rows"), (image.T, "columns")):
        if abs(shift := row_shift(lines)) > _SHIFTED:
            return (
                f"odd and even {name} are shifted by {abs(shift):.1f} pixels: an "
                "interlaced frame, or a scan in both directions"
            )
    if block_grid(image) > _BLOCKY:
        return "the frame was compressed as JPEG; give raw frames"
    if not has_corner(cutoff):
        return ""
    beyond = detail_beyond(image, cutoff)
    if beyond.value > _DETAIL and beyond.value > _CERTAIN * beyond.deviation:
        return (
            "the frame has detail beyond the resolution limit of the stated optics: "
            "check pixel_size_nm (too small?), numerical_aperture (too low?) and "
            "wavelength_nm (too long?), or give raw frames if it is a reconstruction "
            "(SIM, deconvolution)"
        )
    slope = corner_slope(image, cutoff)
    if slope.value < -_COLOURED - _DEVIATIONS * slope.deviation:
        return (
            "the frame's noise is smoothed: it was filtered, resampled or deconvolved; "
            "give raw frames"
        )
    if slope.value > _COLOURED + _DEVIATIONS * slope.deviation:
        return "the frame's noise is sharpened: it was filtered; give raw frames"
    return ""


def row_shift(image: torch.Tensor) -> float:
    """Return the shift in pixels between odd and even rows of an image (H, W).

    From the phases of the cross-spectrum of each even row and the mean of its two
    neighbours, along the row; 0 if they do not agree on one.
    """
    even = image[2:-1:2]
    odd = (image[1:-2:2] + image[3::2])[: len(even)] / 2
    even = even[: len(odd)]
    window = torch.hann_window(image.shape[1], dtype=image.dtype)
    spectra = [
        torch.fft.rfft((part - part.mean(1, keepdim=True)) * window)
        for part in (even, odd)
    ]
    cross = (spectra[0] * spectra[1].conj()).sum(0)
    f = torch.fft.rfftfreq(image.shape[1])
    band = (f > _SHIFT_BAND[0]) & (f < _SHIFT_BAND[1])
    cross, f = cross[band], f[band]
    weight = cross.abs() * f
    total = (weight * f).sum().clamp(min=1e-30)
    slope = (weight * cross.angle()).sum() / total
    scatter = (cross * torch.exp(-1j * slope * f)).angle()
    deviation = (weight * scatter).square().sum().sqrt() / total
    if slope.abs() < _SIGNIFICANT * deviation:
        return 0.0
    return float(slope) / (2 * math.pi)


@lru_cache(maxsize=1)
def _cosines() -> torch.Tensor:
    """Return the finest cosines (_FINEST, _BLOCK) of JPEG's blocks, along one axis."""
    place = (torch.arange(_BLOCK) + 0.5) / _BLOCK
    number = torch.arange(_BLOCK - _FINEST, _BLOCK)[:, None]
    return torch.cos(math.pi * number * place) / 2


def block_grid(image: torch.Tensor) -> float:
    """Return how much an image (H, W) shows the 8 × 8 blocks of JPEG; 0 without.

    JPEG rounds the fine coefficients of its blocks, most of them to zero. For each
    place of the grid of blocks this is the share of small ones; the value is the excess
    of the largest share over the usual one, relative to that, beyond chance.
    """
    part = min(_PART, *image.shape)
    top, left = ((side - part) // 2 for side in image.shape)
    count = part // _BLOCK - 1
    used = count * _BLOCK
    cosines = _cosines().to(image)
    sizes = []
    for x in range(_BLOCK):
        columns = image[top : top + part, left + x : left + x + used]
        along = columns.reshape(part, count, _BLOCK) @ cosines.T
        for y in range(_BLOCK):
            rows = along[y : y + used].reshape(count, _BLOCK, -1)
            sizes.append(torch.tensordot(cosines, rows, ([1], [1])).abs().flatten())
    size = torch.stack(sizes)
    limit = size[:, ::7].median() / 2
    # Without any noise there are no fine coefficients.
    if not float(limit) > 0:
        return 0.0
    share = (size < limit).to(image.dtype).mean(1)
    usual = float(share.median())
    chance = math.sqrt((1 - usual) / usual / size.shape[1])
    return max(0.0, float(share.max()) / usual - 1 - _CHANCE * chance)


class Measured(NamedTuple):
    """A value, and its standard deviation if the noise is white."""

    value: float
    deviation: float


def corner_slope(image: torch.Tensor, cutoff: float) -> Measured:
    """Return the change of the logarithm of an image's power beyond the OTF.

    From its limit to the corner of the spectrum, linearly in |f|².

    Parameters
    ----------
    image
        (H, W).
    cutoff
        The coherent one in cycles per pixel; `has_corner` must hold.
    """
    power, _ = window_powers(image)
    radius, _ = frequencies(image.device)
    corner = beyond_otf(cutoff, image.device)
    place = radius[corner].square()
    span = float(place.max() - place.min())
    place = place - place.mean()
    weight = span * place / place.square().sum()
    spectrum = power.mean(0)
    spectrum = (spectrum + LEAKAGE * spectrum.amax()).clamp(min=1e-30)[corner]
    averages = len(power) * AVERAGES_PER_WINDOW
    deviation = math.sqrt(_CORRELATED / averages * float(weight.square().sum()))
    return Measured(float(spectrum.log() @ weight), deviation)


def detail_beyond(image: torch.Tensor, cutoff: float) -> Measured:
    """Return how much detail an image (H, W) has beyond the limit of the OTF.

    The logarithm of the power beyond the limit over that further out, in the third of
    the windows with the most detail, minus the same in the third with the least: noise
    of any colour is alike in both, and shot noise is white. Of two borders between near
    and further, the one with the more significant value.

    The parameters are those of `corner_slope`; 0 if there are too few frequencies.
    """
    power, _ = window_powers(image)
    radius, _ = frequencies(image.device)
    corner = beyond_otf(cutoff, image.device)
    order = power[:, detail_band(image.device)].mean(1).argsort()
    third = max(1, len(order) // 3)
    spectra = torch.stack(
        [power[windows].mean(0) for windows in (order[:third], order[-third:])]
    )
    # The same limit for both: leakage is no detail.
    dull, detailed = (spectra + LEAKAGE * spectra.amax()).clamp(min=1e-30).log()
    change = detailed - dull
    found = Measured(0.0, math.inf)
    for border in (2 * cutoff * _INNER, math.sqrt(2 * cutoff * float(radius.max()))):
        parts = [corner & (radius < border), corner & (radius >= border)]
        counts = [int(part.sum()) for part in parts]
        if min(counts) < _FEWEST:
            continue
        variance = _CORRELATED / (third * AVERAGES_PER_WINDOW)
        deviation = math.sqrt(2 * variance * sum(1 / count for count in counts))
        value = float(change[parts[0]].mean() - change[parts[1]].mean())
        if value / deviation > found.value / found.deviation:
            found = Measured(value, deviation)
    return found
