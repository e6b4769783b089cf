"""Reduced spectra of a simulated specimen, drawn bin by bin."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deepblur_live.optics.reduced_spectrum import (
    ReducedSpectrum,
    bin_frequencies,
    looks,
)

CUTOFF = 0.26
FINE = (5, 5)
RADIUS, ANGLE = bin_frequencies()


def gaussian(width: float, stretch: float = 1.0) -> NDArray[np.float64]:
    """Return |ĥ|² (64, 33) of a Gaussian of a width in pixels, wider along x."""
    along, across = RADIUS * np.cos(ANGLE), RADIUS * np.sin(ANGLE)
    return np.exp(-4 * np.pi**2 * width**2 * ((stretch * along) ** 2 + across**2))


@dataclass
class Specimen:
    """A specimen with a speckled spectrum, and frames of it.

    Parameters
    ----------
    seed
        Of the speckle: another one is another specimen.
    noise
        Noise variance; the signal falls from 1000 at zero frequency.
    moving
        Standard deviation of log S from frame to frame.
    """

    seed: int = 0
    noise: float = 0.01
    moving: float = 0.0
    light: float = 1.0
    coherence: float = 1.0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(99))

    def __post_init__(self) -> None:
        speckle = np.random.default_rng(self.seed).gamma(12, 1 / 12, RADIUS.shape)
        self.own = 1000 * speckle / (1 + (RADIUS / 0.03) ** 2)

    def frame(self, blur: NDArray[np.float64]) -> ReducedSpectrum:
        """Return a frame's spectrum through |ĥ|² (64, 33)."""
        signal = self.light**2 * self.own * blur
        signal = signal * np.exp(self.moving * self.rng.standard_normal(RADIUS.shape))
        total = signal + self.noise
        share = self.noise / total
        relative = np.sqrt((2 * share * (1 - share) + share**2) / looks(FINE))
        power = total * (1 + relative * self.rng.standard_normal(RADIUS.shape))
        power = np.maximum(power, total / 20)
        return ReducedSpectrum(power.astype(np.float32), FINE, coherence=self.coherence)
