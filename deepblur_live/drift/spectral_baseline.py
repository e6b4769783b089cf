"""The spectra from which changes are measured, and the scatter of these spectra."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import fdtri

from deepblur_live.drift.batches import Batch, Batcher, merge_pairs
from deepblur_live.drift.charts import Charts, Evidence
from deepblur_live.drift.scatter import lag_one
from deepblur_live.drift.spectral_change import (
    SHAPES,
    Change,
    MeanSpectrum,
    SpectralComparison,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.optics.reduced_spectrum import ReducedSpectrum
    from deepblur_live.profile import Drift

__all__ = ["SpectralBaseline", "SpectralPoint"]

# As for the estimates' baseline (docs/decisions/0043): the charts are widened for the
# autocorrelation of the points, up to the maximum; beyond it batches are lengthened.
_MIN_LAG_ONE, _MAX_LAG_ONE = 0.15, 0.7
_MAX_LENGTHENING = 8
# Scatter of a coefficient below this share of the theoretical one counts as chance,
# and below the second share of that as rounding.
_RESOLUTION, _ROUNDING = 0.5, 1e-3
# The theoretical covariance has the weight of this many batches.
_SHRINKAGE = 40
# One in a thousand unchanged batches has T above 1.
_RISK = 1e-3


@dataclass(frozen=True)
class SpectralPoint:
    """The change from the baseline to one batch of frames.

    Parameters
    ----------
    begin, end
        Times of the first and last frame, seconds since the session began.
    change
        The change.
    test
        T, the squared change over its covariance by the baseline's own batches,
        relative to what one unchanged batch in a thousand exceeds.
    coherence
        Mean squared coherence of the frames with the reference frame.
    """

    begin: float
    end: float
    change: Change
    test: float
    coherence: float


class SpectralBaseline:
    """Averages reduced spectra in batches; the first batches are the baseline.

    How much the changes scatter without a change of the blur is learned from the
    baseline's own batches: by the noise alone for a specimen at rest, by more for one
    that moves. Charts of the changes are armed once the batches are not too strongly
    correlated; until then they are lengthened.

    Parameters
    ----------
    cutoff
        Coherent cut-off in cycles per pixel.
    settings
        Length of a batch, number in a baseline, false alarms allowed.
    reason
        Why a baseline is measured, if it is not the session's first.

    Attributes
    ----------
    comparison
        Comparison with the baseline's mean spectrum; None before the charts are armed.
    coherence
        Mean coherence of the baseline's frames; NaN before.
    """

    def __init__(self, cutoff: float, settings: Drift, reason: str = "") -> None:
        self._cutoff, self._settings = cutoff, settings
        self._batcher = Batcher(settings.batch_s)
        self._batches: list[Batch] = []
        self._fine = (1, 1)
        self.reason = reason
        self.comparison: SpectralComparison | None = None
        self.coherence = self.lag_one = math.nan

    @property
    def count(self) -> int:
        """Number of batches in the baseline so far."""
        return len(self._batches)

    @property
    def begin(self) -> float:
        """Time of its first frame, seconds since the session began."""
        return self._batches[0].begin

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(16, 16) of the change to a single batch, as learned so far.

        Widened for the autocorrelation of the points: a mean of n has 1/n of it.
        """
        learned = self._charts.scatter.covariance
        lag = max(self.lag_one, _MIN_LAG_ONE)
        covariance: NDArray[np.float64] = self._root @ learned @ self._root.T
        return covariance * (1 + lag) / (1 - lag)

    @property
    def spacing(self) -> float:
        """Median interval between batches, seconds."""
        return float(np.median(np.diff([batch.begin for batch in self._batches])))

    def remaining_s(self, now: float) -> float:
        """Return the seconds until there is a baseline; NaN if unknown."""
        if self.comparison is not None:
            return 0.0
        missing = self._settings.baseline_points - self.count
        if missing <= 0:
            # There are enough batches: their spectra do not allow it yet.
            return math.nan
        return missing * self._batcher.seconds - self._batcher.lasted(now)

    def add(self, time: float, spectrum: ReducedSpectrum) -> SpectralPoint | None:
        """Add a frame's spectrum; return the batch that is complete with it, if any.

        None while the baseline is measured.
        """
        self._fine = spectrum.fine
        batch = self._batcher.add(time, _packed(spectrum))
        if batch is None:
            return None
        if self.comparison is None:
            self._batches.append(batch)
            if len(self._batches) >= self._settings.baseline_points:
                self._try_to_arm()
            return None
        change = self.comparison.compare(self._mean([batch]))
        test = self._test(_whitened(change))
        coherence = float(batch.mean[-1])
        return SpectralPoint(batch.begin, batch.end, change, test, coherence)

    def chart(self, point: SpectralPoint) -> Evidence:
        """Chart a point of the baseline's specimen."""
        return self._charts.add(point.begin, _whitened(point.change))

    def _mean(self, batches: list[Batch]) -> MeanSpectrum:
        power = np.mean([batch.mean[:-1] for batch in batches], axis=0)
        frames = sum(batch.count for batch in batches)
        return MeanSpectrum(power.reshape(64, -1), frames, self._fine)

    def _test(self, point: NDArray[np.float64]) -> float:
        return float(point @ np.linalg.solve(self._scatter, point)) / self._limit

    def _try_to_arm(self) -> None:
        del self._batches[: -self._settings.baseline_points]
        reference = self._mean(self._batches)
        spectra = [self._mean([batch]) for batch in self._batches]
        count = len(spectra)
        try:
            comparison = SpectralComparison(reference, self._cutoff)
        except ValueError as error:
            self.reason = f"not armed: {error}"
            return
        excess = np.mean([comparison.compare(one).excess for one in spectra])
        scatter = math.sqrt(max(0.0, float(excess) * count / (count - 1)))
        comparison = SpectralComparison(reference, self._cutoff, scatter)
        changes = [comparison.compare(one) for one in spectra]
        theory = np.mean([change.covariance for change in changes], axis=0)
        self._root = cholesky(theory, lower=True)
        points = np.array([_whitened(change) for change in changes])
        least = np.full(SHAPES, _RESOLUTION)
        # Copies of a frame, from a recording, do not scatter at all.
        scatters = np.ptp(points, axis=0).max() > _ROUNDING
        self.lag_one = lag_one(points, _ROUNDING * least) if scatters else 0.0
        if self.lag_one > _MAX_LAG_ONE:
            self._lengthen()
            return
        self._learn(points)
        length = self._batcher.seconds
        points_apart = self._settings.false_alarm_hours * 3600 / length
        self._charts = Charts(least, points_apart)
        for batch, point in zip(self._batches, points, strict=True):
            self._charts.add(batch.begin, point)
        self._charts.allow_for(max(self.lag_one, _MIN_LAG_ONE))
        self.coherence = float(np.mean([batch.mean[-1] for batch in self._batches]))
        self.comparison, self.reason = comparison, ""

    def _learn(self, points: NDArray[np.float64]) -> None:
        """Set covariance and limit of T: the points' own, shrunk towards the theory."""
        count = len(points)
        squares = np.cov(points.T) * (count - 1)
        theory = max(_RESOLUTION**2, np.trace(squares) / (count - 1) / SHAPES)
        freedom = count - 1 + _SHRINKAGE
        shrunk = (squares + _SHRINKAGE * theory * np.eye(SHAPES)) / freedom
        # The baseline's mean is known no better than its batches.
        self._scatter = shrunk * (1 + 1 / count)
        rest = freedom - SHAPES + 1
        quantile = float(fdtri(SHAPES, rest, 1 - _RISK))
        self._limit = SHAPES * freedom / rest * quantile

    def _lengthen(self) -> None:
        length = self._batcher.seconds
        if length >= _MAX_LENGTHENING * self._settings.batch_s:
            self.reason = (
                f"not armed: averages over {length:g} s are still correlated "
                f"(autocorrelation {self.lag_one:.2f})"
            )
            return
        self._batches = merge_pairs(self._batches)
        self._batcher.lengthen()
        self.reason = (
            "successive points are correlated: averaging over "
            f"{self._batcher.seconds:g} s"
        )


def _whitened(change: Change) -> NDArray[np.float64]:
    """Return the shapes (16,), whitened by the noise and scatter of the bins.

    Batches of fewer frames, or dimmer ones, thus become comparable with the others.
    """
    root = cholesky(change.covariance, lower=True)
    whitened: NDArray[np.float64] = solve_triangular(root, change.shapes, lower=True)
    return whitened


def _packed(spectrum: ReducedSpectrum) -> NDArray[np.float64]:
    """Return the numbers that are averaged: the power, then the coherence."""
    power = spectrum.power.astype(np.float64).ravel()
    return np.append(power, spectrum.coherence)
