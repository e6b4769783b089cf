"""Standard normal scores of points whose mean and covariance are unknown.

A baseline of a few dozen points determines its mean and covariance poorly, and a chart
that takes them as known signals far too often. Each point is therefore compared with
the points before it alone, as a recursive residual with Student's distribution:
transformed to normal scores, these are independent and standard normal, exactly, from
the first few points on. The uncertainty of the baseline is in the scores, so that the
limits need not be widened for it.

References
----------
D. M. Hawkins, *Self-starting CUSUM charts for location and scale*, The Statistician 36
(1987). D. M. Hawkins & E. M. Maboudou-Tchao, *Self-starting multivariate exponentially
weighted moving average control charting*, Technometrics 49 (2007).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LearnedScatter", "lag_one"]

# Larger scores are clipped: no single point, however far out, is a signal.
_MAX_SCORE = 7.0
# Points beyond this quantile, a score of 4, are winsorised to it before they are
# learned (Hawkins & Olwell, *Cumulative Sum Charts and Charting*, 1998, section 7.2).
_LEARN_WITHIN = float(ndtr(4.0))
_MIN_POINTS = 8


class LearnedScatter:
    """Mean and covariance of the points so far, and the scores of the next one.

    Parameters
    ----------
    resolution
        (P,) standard deviation below which the scatter of a coefficient counts as
        rounding.
    """

    def __init__(self, resolution: NDArray[np.float64]) -> None:
        self.count = 0
        self.mean = np.zeros(len(resolution))
        self._least_variance = np.diag(resolution**2)
        self._squares = np.zeros_like(self._least_variance)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(P, P) of single points; NaN before the second."""
        if self.count < 2:
            return np.full_like(self._squares, np.nan)
        return self._regular() / (self.count - 1)

    def _regular(self) -> NDArray[np.float64]:
        return self._squares + self.count * self._least_variance

    def scores(
        self, point: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scores of a point (P,) that has not been learned yet.

        Returns
        -------
        alone
            (P,) of each coefficient alone: standard normal, correlated with one
            another.
        joint
            (P,) of each coefficient conditional on those before it: standard normal
            and independent. 0 where there are too few points yet.
        """
        p, n = len(self.mean), self.count
        if n < 2:
            return np.zeros(p), np.zeros(p)
        offset = point - self.mean
        squares = self._regular()
        variance = np.diag(squares) / (n - 1) * (1 + 1 / n)
        alone = _normal(offset / np.sqrt(variance), np.full(p, n - 1.0))
        # numpy's: those of scipy take three times as long for so few numbers.
        whitened = np.linalg.solve(np.linalg.cholesky(squares), offset)
        freedom = n - 1.0 - np.arange(p)
        known = freedom >= 1
        before = np.concatenate([[0.0], np.cumsum(whitened**2)[:-1]])
        student = whitened * np.sqrt(np.maximum(freedom, 1) / (1 + 1 / n + before))
        joint = np.where(known, _normal(student, np.maximum(freedom, 1)), 0.0)
        return alone, joint

    def learn(self, point: NDArray[np.float64]) -> None:
        """Add a point (P,); one far out is winsorised."""
        offset = point - self.mean
        if self.count >= 2:
            deviation = np.sqrt(np.diag(self.covariance) * (1 + 1 / self.count))
            worst = float(np.max(np.abs(offset) / deviation))
            within = float(stdtrit(self.count - 1.0, _LEARN_WITHIN))
            offset = offset * min(1.0, within / max(worst, 1e-9))
        self.count += 1
        self.mean = self.mean + offset / self.count
        self._squares = self._squares + np.outer(offset, offset) * (
            (self.count - 1) / self.count
        )


def _normal(
    student: NDArray[np.float64], freedom: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the normal scores of Student's t with these degrees of freedom."""
    # In the lower tail, where probabilities do not round to 1.
    tail = stdtr(freedom, -np.abs(student))
    size = np.minimum(-ndtri(np.maximum(tail, 1e-300)), _MAX_SCORE)
    score: NDArray[np.float64] = np.sign(student) * size
    return score


def lag_one(points: NDArray[np.float64], resolution: NDArray[np.float64]) -> float:
    """Return the lag-1 autocorrelation of points (n, P), insensitive to a slow drift.

    From the differences of neighbours less their mean, which a steady drift does not
    affect: with φ the autocorrelation, the lag-1 autocorrelation of the differences is
    -(1 - φ)/2. Coefficients are pooled, each relative to its own scatter, which counts
    as no less than its `resolution` (P,). 0 for fewer than eight points, whose result
    would have a standard error above 0.2.
    """
    if len(points) < _MIN_POINTS:
        return 0.0
    steps = np.diff(points, axis=0)
    steps = steps - steps.mean(axis=0)
    variance = np.mean(steps**2, axis=0) + resolution**2
    product = np.mean(steps[1:] * steps[:-1], axis=0)
    # With few points the estimate may lie outside the range of a correlation.
    return float(np.clip(1 + 2 * np.mean(product / variance), -1, 1))
