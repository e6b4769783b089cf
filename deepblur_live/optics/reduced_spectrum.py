"""The power spectrum of a whole tapered frame, averaged on a coarse grid of bins.

Unlike the average over short windows, which the blur smears across their edges, it
keeps log S = log S_x + log|ĥ|² to within a few hundredths of a neper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BINS", "ReducedSpectrum", "bin_frequencies", "looks", "taper_line"]

BINS = 64
"""Bins along an axis; a real frame's spectrum has ``BINS // 2 + 1`` columns."""

# Share of a side over which the taper rises, and falls. Flat between: what moves there
# keeps its weight in the spectrum (docs/decisions/0146).
_EDGE = 1 / 8


@dataclass(frozen=True)
class ReducedSpectrum:
    """The spectrum of one frame's window, or the mean of several frames'.

    Parameters
    ----------
    power
        (64, 33) float32, as `bin_frequencies`. White noise of variance σ² has the
        spectrum σ².
    fine
        Frequencies of the window averaged in a bin, along each axis.
    shift
        Whole pixels, rows and columns, by which the specimen has moved since the
        reference frame; the window has followed it.
    reference
        Number of the reference frame: another one, and shifts start from zero again.
    coherence
        Squared coherence of the frame with the reference frame, for coarse structure:
        1 for the same specimen, through any blur; about 0 for another one.
    """

    power: NDArray[np.float32]
    fine: tuple[int, int]
    shift: tuple[int, int] = (0, 0)
    reference: int = 0
    coherence: float = 1.0

    def times(self, factor: float) -> ReducedSpectrum:
        """Return the spectrum of a frame with `factor` times the contrast.

        Powers that overflow become infinite.
        """
        with np.errstate(over="ignore"):
            power = self.power * np.square(np.float64(factor))
            return replace(self, power=power.astype(np.float32))


@lru_cache(maxsize=1)
def bin_frequencies() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return |f| (cycles per pixel) and the angle (radians) of the bins (64, 33)."""
    fy = np.fft.fftfreq(BINS)[:, None]
    fx = np.fft.rfftfreq(BINS)[None]
    radius, angle = np.hypot(fy, fx), np.arctan2(fy, fx)
    radius.flags.writeable = angle.flags.writeable = False
    return radius, angle


@lru_cache(maxsize=8)
def taper_line(side: int) -> NDArray[np.float64]:
    """Return the taper (side,) along an axis: flat, with cosine edges (Tukey's)."""
    place = (np.arange(side) + 0.5) / side
    depth = np.minimum(place, 1 - place) / _EDGE
    line: NDArray[np.float64] = np.sin(np.pi / 2 * np.minimum(depth, 1)) ** 2
    line.flags.writeable = False
    return line


@lru_cache(maxsize=8)
def looks(fine: tuple[int, int]) -> float:
    """Return the effective number of independent values averaged in a bin.

    Under a taper w the amplitudes of white noise at two frequencies have a correlation
    ρ, the transform of w² at their distance; the mean power of b frequencies has
    Σᵢⱼ ρ²ᵢ₋ⱼ / b² of the variance of one.
    """
    total = 1.0
    for b in fine:
        transform = np.abs(np.fft.fft(taper_line(BINS * b) ** 2))
        distance = np.abs(np.arange(b)[:, None] - np.arange(b))
        correlation = (transform / transform[0])[distance]
        total *= b**2 / float((correlation**2).sum())
    return total
