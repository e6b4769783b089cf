"""From points of unknown mean and scatter to scores that are standard normal.

A baseline of a few dozen points knows its own mean and scatter poorly, and a chart that
takes them for known signals far too often. Each point is therefore judged by the points
before it alone, as recursive residuals with Student's distribution: turned into normal
scores they are independent and standard normal, exactly, from the first few points on.
The limits need no further widening, for the widening is in the scores.

References
----------
D. M. Hawkins, *Self-starting CUSUM charts for location and scale*, The Statistician 36
(1987). D. M. Hawkins & E. M. Maboudou-Tchao, *Self-starting multivariate exponentially
weighted moving average control charting*, Technometrics 49 (2007).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import ndtr, ndtri, stdtr, stdtrit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LearnedScatter", "lag_one"]

# Scores beyond this count as this: no single point, however far, is a signal.
_MAX_SCORE = 7.0
# A point further out than all but this share (a score of 4) is learned from as if it
# lay there (Hawkins & Olwell, *Cumulative Sum Charts and Charting*, 1998, section 7.2).
_LEARN_WITHIN = float(ndtr(4.0))
# Differences below this many waves are no drift of any interest, and rounding.
_RESOLUTION = 2e-4
_LEAST_POINTS = 8


class LearnedScatter:
    """Mean and scatter of the points so far, and what they make of the next one.

    Parameters
    ----------
    p
        Number of coefficients P.
    """

    def __init__(self, p: int) -> None:
        self.count = 0
        self.mean = np.zeros(p)
        self._squares = np.zeros((p, p))

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(P, P) scatter of single points; NaN before the second."""
        if self.count < 2:
            return np.full_like(self._squares, np.nan)
        return self._regular() / (self.count - 1)

    def _regular(self) -> NDArray[np.float64]:
        return self._squares + self.count * _RESOLUTION**2 * np.eye(len(self.mean))

    def scores(
        self, point: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scores of a point (P,), before it is learned.

        Returns
        -------
        alone
            (P,) each mode by itself: standard normal, correlated with one another.
        joint
            (P,) each mode given those before it: standard normal and independent. 0
            where there are too few points yet.
        """
        p, n = len(self.mean), self.count
        if n < 2:
            return np.zeros(p), np.zeros(p)
        offset = point - self.mean
        squares = self._regular()
        variance = np.diag(squares) / (n - 1) * (1 + 1 / n)
        alone = _normal(offset / np.sqrt(variance), np.full(p, n - 1.0))
        whitened = solve_triangular(cholesky(squares, lower=True), offset, lower=True)
        freedom = n - 1.0 - np.arange(p)
        known = freedom >= 1
        before = np.concatenate([[0.0], np.cumsum(whitened**2)[:-1]])
        student = whitened * np.sqrt(np.maximum(freedom, 1) / (1 + 1 / n + before))
        joint = np.where(known, _normal(student, np.maximum(freedom, 1)), 0.0)
        return alone, joint

    def learn(self, point: NDArray[np.float64]) -> None:
        """Take a point (P,) in; one far out counts as nearer."""
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
    """Return the normal scores of Student's t of some degrees of freedom."""
    # In the lower tail, where probabilities do not round to one.
    tail = stdtr(freedom, -np.abs(student))
    size = np.minimum(-ndtri(np.maximum(tail, 1e-300)), _MAX_SCORE)
    score: NDArray[np.float64] = np.sign(student) * size
    return score


def lag_one(points: NDArray[np.float64]) -> float:
    """Return the lag-1 autocorrelation of (n, P) points, modes pooled, drift aside.

    From the differences of neighbours, less their mean, which a steady drift does not
    move: with φ the autocorrelation, the lag-1 autocorrelation of the differences is
    -(1 - φ)/2. Modes count by their own scatter. 0 for fewer than eight points, whose
    answer would stray by more than ± 0.2.
    """
    if len(points) < _LEAST_POINTS:
        return 0.0
    steps = np.diff(points, axis=0)
    steps = steps - steps.mean(axis=0)
    scale = np.mean(steps**2, axis=0) + _RESOLUTION**2
    together = np.mean(steps[1:] * steps[:-1], axis=0)
    # What few points make of it may lie where no autocorrelation does.
    return float(np.clip(1 + 2 * np.mean(together / scale), -1, 1))
