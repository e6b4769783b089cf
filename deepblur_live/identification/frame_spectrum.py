"""The power spectrum of a whole frame on coarse bins, for comparing frames.

Welch's short windows are cut by the blur: light that the PSF moves across a window's
edge is missing. A taper over the whole frame, whose fine bins are averaged, does not
have this error (docs/decisions/0115-focus-sweep-method.md).
"""

from __future__ import annotations

from functools import lru_cache

import torch

__all__ = [
    "bin_frequencies",
    "bin_looks",
    "coherence",
    "frame_spectrum",
    "mixed",
    "white_level",
]

# Correlation of the power of fine bins that are 0, 1 and 2 apart, under a Hann taper:
# the squares of 1, 2/3 and 1/6.
_HANN = (1.0, 4 / 9, 1 / 36)
# Beyond the OTF's cut-off there is only noise; leakage reaches a little further.
_BEYOND = 1.04
_TINY = 1e-30


def frame_spectrum(image: torch.Tensor, bins: int) -> torch.Tensor:
    """Return the power spectrum (..., bins, bins) of frames (..., H, W).

    Each bin is the average, with triangular weights, of the fine bins nearer to it than
    its neighbours' centres. White noise of variance σ² has the spectrum σ². Values at
    f and -f are equal.

    Parameters
    ----------
    image
        Frames; what exceeds a multiple of `bins` is cut off at the lower right.
    bins
        Number of bins along each axis, even.

    Raises
    ------
    ValueError
        When a side is shorter than twice the bins.
    """
    transform = _transform(image, bins)
    fine = transform.real**2 + transform.imag**2
    rows, columns = (_averaging(size, bins).to(fine) for size in fine.shape[-2:])
    coarse: torch.Tensor = rows @ fine @ columns.T
    return coarse


def coherence(
    first: torch.Tensor, second: torch.Tensor, cutoff: float, bins: int = 64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the squared coherence (bins, bins) of two frames (H, W).

    And the signal's share of the power (2, bins, bins) in each, 0 to 1. The coherence
    of one specimen under two blurs is the product of these shares.

    Parameters
    ----------
    first, second
        The frames.
    cutoff
        Coherent cut-off in cycles per pixel.
    bins
        As for `frame_spectrum`.
    """
    both = _transform(torch.stack([first, second]), bins)
    rows, columns = (_averaging(size, bins).to(both) for size in both.shape[-2:])
    cross = rows @ (both[0] * both[1].conj()) @ columns.T
    power = rows.real @ both.abs().square() @ columns.real.T
    noise = white_level(power, cutoff)[:, None, None]
    squared = cross.abs().square() / power.prod(0).clamp(min=_TINY)
    return squared, (1 - noise / power.clamp(min=_TINY)).clamp(min=0)


def bin_looks(shape: tuple[int, int], bins: int) -> float:
    """Return the number of independent values of power that a bin averages.

    Parameters
    ----------
    shape
        (H, W) of the frame.
    bins
        As for `frame_spectrum`.
    """
    looks = 1.0
    for size in shape:
        weights = _triangle(size // bins)
        spread = 0.0
        for apart, correlation in enumerate(_HANN):
            overlap = float((weights[: len(weights) - apart] * weights[apart:]).sum())
            spread += (1 if apart == 0 else 2) * correlation * overlap
        looks /= spread
    return looks


@lru_cache(maxsize=4)
def bin_frequencies(bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the frequencies (bins, bins) along y and along x, cycles per pixel."""
    f = torch.fft.fftfreq(bins, dtype=torch.float64)
    y, x = torch.meshgrid(f, f, indexing="ij")
    return y, x


def mixed(power: torch.Tensor) -> torch.Tensor:
    """Return a sampled |OTF|² (..., bins, bins), averaged as `frame_spectrum` does.

    By three values along each axis, which have the variance of the triangle: 1/6 bin².
    """
    for axis in (-2, -1):
        power = power * (5 / 6) + (power.roll(1, axis) + power.roll(-1, axis)) / 12
    return power


def white_level(spectrum: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Return the level (...) of white noise in spectra (..., bins, bins).

    The median beyond the OTF; without such frequencies the weakest bins, which bound
    the noise from above.

    Parameters
    ----------
    spectrum
        Spectra, as returned by `frame_spectrum`.
    cutoff
        Coherent cut-off in cycles per pixel.
    """
    y, x = bin_frequencies(spectrum.shape[-1])
    beyond = torch.hypot(y, x) > 2 * cutoff * _BEYOND
    flat = spectrum.flatten(-2)
    if int(beyond.sum()) >= 24:
        level = flat[..., beyond.flatten()].median(-1).values
    else:
        level = flat.quantile(0.02, -1)
    # Without noise the level is the numerical precision.
    return torch.maximum(level, 1e-9 * flat.amax(-1))


def _transform(image: torch.Tensor, bins: int) -> torch.Tensor:
    """Return the transform of tapered frames; its square is the power in fine bins."""
    height, width = (n - n % bins for n in image.shape[-2:])
    if min(height, width) < 2 * bins:
        raise ValueError(
            f"a frame of {image.shape[-2]} × {image.shape[-1]} pixels is too small: "
            f"at least {2 * bins} × {2 * bins}"
        )
    image = image[..., :height, :width]
    taper = _hann(height)[:, None] * _hann(width)
    mean = (image * taper**2).mean((-2, -1), keepdim=True)
    tapered = (image - mean) * taper.to(image)
    transform: torch.Tensor = torch.fft.fft2(tapered, norm="ortho")
    return transform


@lru_cache(maxsize=8)
def _hann(size: int) -> torch.Tensor:
    """Return a periodic Hann taper (size,) of mean square 1."""
    line = torch.hann_window(size, dtype=torch.float64)
    taper: torch.Tensor = line / (line**2).mean().sqrt()
    return taper


@lru_cache(maxsize=8)
def _triangle(step: int) -> torch.Tensor:
    """Return the weights (2·step - 1,) of the fine bins about a bin's centre."""
    offset = torch.arange(1 - step, step, dtype=torch.float64)
    return (1 - offset.abs() / step) / step


@lru_cache(maxsize=8)
def _averaging(size: int, bins: int) -> torch.Tensor:
    """Return the (bins, size) weights of the fine bins in each bin, periodic."""
    step = size // bins
    matrix = torch.zeros(bins, size, dtype=torch.float64)
    centres = torch.arange(bins) * step
    for offset, weight in zip(range(1 - step, step), _triangle(step), strict=True):
        matrix[torch.arange(bins), (centres + offset) % size] += weight
    return matrix
