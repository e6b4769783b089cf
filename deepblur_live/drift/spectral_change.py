"""The change of the blur from two spectra of one specimen, whose own cancels.

A frame has the spectrum S = S_x·|ĥ|² + σ². In the ratio of two frames of one specimen
S_x cancels, and the remainder, log|ĥ₁|² - log|ĥ₀|², is smooth: a few smooth functions
of the frequency describe it, without any model of the optics. Another specimen, or one
that moves within itself, changes the spectrum in a way that is not smooth. Gain and
noise of the frames are free.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.optics.reduced_spectrum import bin_frequencies, looks

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SHAPES", "Change", "MeanSpectrum", "SpectralComparison", "noise_level"]

SHAPES = 16
"""Smooth shapes that describe a change."""

# Illumination and haze lie below the first frequency (cycles per pixel); above this
# share of the OTF's cut-off too little is transferred.
_LOWEST, _HIGHEST = 0.03, 0.9
# The shapes' angular orders: |ĥ|² is even, so they are, too.
_ORDERS = (2, 4, 6)
# Noise alone lies beyond this multiple of the OTF's cut-off.
_BEYOND = 1.04
# Bins are used whose power exceeds the noise's by this factor, plus three of the
# standard deviations that noise alone would have; and how many are needed.
_LEAST_SIGNAL, _LEAST_BINS = 1.2, 100
# Least share of the signal in a bin: below it, the logarithm is the noise's.
_LEAST_SHARE = 0.02
# Prior standard deviations: of the part of log S that no shape describes; of a shape's
# coefficient, which matters only where the data do not determine it; and of the
# logarithm of a noise level that was measured beyond the OTF.
_MODEL, _PRIOR, _NOISE_PRIOR = 0.01, 1.0, 0.2
_STEPS, _HALVINGS, _DONE = 12, 6, 1e-3


@dataclass(frozen=True)
class MeanSpectrum:
    """The mean of the reduced spectra of several frames.

    Parameters
    ----------
    power
        (64, 33), as `bin_frequencies`.
    frames
        Number of frames.
    fine
        As in `ReducedSpectrum`.
    """

    power: NDArray[np.float64]
    frames: float
    fine: tuple[int, int]


@dataclass(frozen=True)
class Change:
    """The change between two spectra of one specimen.

    Parameters
    ----------
    shapes
        (16,) coefficients of the smooth shapes of log S₁ - log S₀, in nepers of power:
        twice those of the amplitude.
    covariance
        (16, 16), by noise and scatter of the bins.
    residual
        U, the mean square of the part that is not smooth, over its expected value: 1
        for the same specimen.
    excess
        That mean square less its expected value, in nepers of power squared.
    """

    shapes: NDArray[np.float64]
    covariance: NDArray[np.float64]
    residual: float
    excess: float

    @property
    def chi_squared(self) -> float:
        """The change over its covariance: χ² with 16 degrees of freedom if none."""
        return float(self.shapes @ np.linalg.solve(self.covariance, self.shapes))


class SpectralComparison:
    """Compares spectra with a reference of the same specimen.

    Parameters
    ----------
    reference
        The spectrum from which changes are measured.
    cutoff
        Coherent cut-off in cycles per pixel.
    scatter
        Standard deviation of log S, bin by bin, that the specimen itself causes from
        one mean spectrum to the next: 0 for one at rest.

    Attributes
    ----------
    metric
        (16, 16) M: √(dᵀMd) is the *strength* of a change d, the rms change of the
        logarithm of the contrast over the bins used, weighted by their information, in
        nepers.
    sharpening
        (16,) s: s·d is the part of the strength that rises or falls steadily with the
        frequency: negative where fine details have lost more contrast than coarse ones.

    Raises
    ------
    ValueError
        Too few bins of the reference are above the noise.
    """

    def __init__(
        self, reference: MeanSpectrum, cutoff: float, scatter: float = 0.0
    ) -> None:
        self.reference, self.cutoff, self.scatter = reference, cutoff, scatter
        self._noise = noise_level(reference.power, cutoff)
        averages = looks(reference.fine) * reference.frames
        smooth = _smoothed(reference.power)
        band, shapes = _basis(cutoff)
        least = _LEAST_SIGNAL + 3 / math.sqrt(averages)
        self._used = band & (smooth > least * self._noise)
        if (count := int(self._used.sum())) < _LEAST_BINS:
            raise ValueError(f"only {count} bins of the spectrum are above the noise")
        self._shapes = shapes[self._used]
        power = reference.power[self._used]
        self._signal = np.maximum(power - self._noise, _LEAST_SHARE * power)
        self._share = _signal_share(smooth[self._used], self._noise)
        self._variance = _noise_variance(self._share, averages)
        self._measures()

    def _measures(self) -> None:
        # Weights for a single frame, so that the unit does not depend on the number of
        # frames.
        variance = _noise_variance(self._share, looks(self.reference.fine))
        weight = self._share**2 / (variance + (_MODEL * self._share) ** 2)
        self._weight = weight = weight / weight.sum()
        centred = self._shapes - weight @ self._shapes
        # A quarter: from the power's logarithm to the contrast's, squared.
        self.metric = (centred.T * weight) @ centred / 4
        radius = bin_frequencies()[0][self._used]
        rising = radius - weight @ radius
        self.sharpening = (weight * rising) @ self._shapes
        self.sharpening /= 2 * math.sqrt(float(weight @ rising**2))

    def project(self, logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the shapes (..., 16) nearest to changes of log S (..., 64, 33).

        With the metric's weights, and up to a gain.
        """
        values = logarithms[..., self._used]
        values = values - (values @ self._weight)[..., None]
        centred = self._shapes - self._weight @ self._shapes
        # A shape that the weights leave undetermined stays near zero.
        curvature = 4 * self.metric + _DONE * np.trace(self.metric) * np.eye(SHAPES)
        slopes = (values * self._weight) @ centred
        shapes: NDArray[np.float64] = np.linalg.solve(curvature, slopes.T).T
        return shapes

    def compare(self, now: MeanSpectrum) -> Change:
        """Return the change from the reference to a spectrum.

        The most probable shapes, gain and noise, by the Gauss–Newton method; the
        weights of the bins follow from both spectra's shares of noise.
        """
        noise = noise_level(now.power, self.cutoff)
        smooth = _smoothed(now.power)[self._used]
        share = _signal_share(smooth, noise)
        variance = self._variance + _noise_variance(share, looks(now.fine) * now.frames)
        own = self.scatter**2 + _MODEL**2
        variance = variance + own * share * self._share
        wanted = np.log(np.maximum(now.power[self._used], 1e-3 * noise))
        precision = np.full(2 + SHAPES, _PRIOR**-2)
        precision[:2] = 0.0, _NOISE_PRIOR**-2

        def model(
            found: NDArray[np.float64],
        ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
            """Return misfit, share of the signal, and cost."""
            signal = self._signal * np.exp(found[0] + self._shapes @ found[2:])
            total = signal + noise * np.exp(found[1])
            misfit = wanted - np.log(total)
            cost = float((misfit**2 / variance).sum() + precision @ found**2)
            return misfit, signal / total, cost

        found = np.zeros(2 + SHAPES)
        found[0] = np.log(np.median(smooth * share / self._signal))
        misfit, part, cost = model(found)
        for _ in range(_STEPS):
            slopes = np.column_stack([part, 1 - part, part[:, None] * self._shapes])
            curvature = (slopes.T / variance) @ slopes + np.diag(precision)
            descent = slopes.T @ (misfit / variance) - precision * found
            step = np.linalg.solve(curvature, descent)
            for _ in range(_HALVINGS):
                misfit, part, trial = model(found + step)
                if trial <= cost:
                    break
                step = step / 2
            found = found + step
            if abs(cost - trial) < _DONE:
                break
            cost = trial
        # Each free parameter takes up the scatter of one bin.
        square = misfit**2 * len(misfit) / (len(misfit) - len(found))
        signal = share * self._share
        weight = signal / variance
        covariance = np.asarray(np.linalg.inv(curvature)[2:, 2:], np.float64)
        return Change(
            found[2:],
            covariance,
            float((square / variance).mean()),
            float(weight @ (square - variance) / (weight @ signal)),
        )


def noise_level(power: NDArray[np.float64], cutoff: float) -> float:
    """Return the noise variance of a spectrum (64, 33), measured beyond the OTF.

    Where no frequency lies beyond it, the weakest two per cent bound it from above.
    """
    radius, _ = bin_frequencies()
    corner = radius > 2 * cutoff * _BEYOND
    # Column and row noise lies on the axes.
    corner[:, 0] = corner[0] = False
    level = np.median(power[corner]) if corner.any() else np.quantile(power, 0.02)
    return max(float(level), 1e-9 * float(power.max()))


@lru_cache(maxsize=4)
def _basis(cutoff: float) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return the bins of the band (64, 33), and the shapes (64, 33, 16).

    Powers 1 to 4 of the frequency, and its square and cube times the cosine and sine of
    2, 4 and 6 times the angle; orthonormal over the band, and without a mean there,
    which is the gain's.
    """
    radius, angle = bin_frequencies()
    end = min(2 * cutoff, 0.5) * _HIGHEST
    band = (radius > _LOWEST) & (radius < end)
    band[:, 0] = band[0] = False
    u = radius / end
    rising = [u**k for k in (1, 2, 3, 4)]
    turning = [
        u**k * turn(order * angle)
        for k in (2, 3)
        for order in _ORDERS
        for turn in (np.cos, np.sin)
    ]
    shapes = np.stack(rising + turning, -1)
    shapes = shapes - shapes[band].mean(0)
    _, triangle = np.linalg.qr(shapes[band] / math.sqrt(band.sum()))
    # The signs that QR leaves open: each shape rises with the function it comes from.
    triangle = triangle * np.sign(np.diag(triangle))[:, None]
    flat = np.linalg.solve(triangle.T, shapes.reshape(-1, SHAPES).T).T
    return band, flat.reshape(shapes.shape)


def _smoothed(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over 3 × 3 bins of (64, 33); rows are periodic.

    The power of a single bin of a single frame does not show its share of noise.
    """
    rows = (np.roll(power, 1, 0) + power + np.roll(power, -1, 0)) / 3
    wide = np.pad(rows, ((0, 0), (1, 1)), mode="reflect")
    smooth: NDArray[np.float64] = (wide[:, :-2] + rows + wide[:, 2:]) / 3
    return smooth


def _signal_share(smooth: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    return np.clip(1 - noise / smooth, _LEAST_SHARE, 1.0)


def _noise_variance(share: NDArray[np.float64], averages: float) -> NDArray[np.float64]:
    """Return the variance of log S of one specimen: noise alone scatters.

    With ρ the noise's share and L averages it is (2ρ(1 - ρ) + ρ²)/L: the specimen's
    amplitude is the same in all frames.
    """
    noise = 1 - share
    return (2 * noise * share + noise**2) / averages
