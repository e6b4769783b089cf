"""Control charts: has any coefficient changed, beyond its scatter."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.drift.run_length import cusum_limit, mewma_limit
from deepblur_live.drift.scatter import LearnedScatter

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Charts", "Evidence"]

# Tuned to shifts of one standard deviation of a point, and of less.
_REFERENCE = 0.5
_WEIGHT = 0.1
# A sum may exceed its limit by so much, times the limit: after a long change it would
# otherwise take as long to come down.
_CAP = 1.5
# A point is learned once so many more have come: the first of a change would widen the
# scatter that the next ones are judged by.
_LEARN_AFTER = 2


@dataclass(frozen=True)
class Evidence:
    """What the charts say after a point.

    Parameters
    ----------
    cusum
        Largest of the modes' sums over the limit: 1 and more is a signal.
    mewma
        T² of the modes together over its limit: likewise.
    since
        When the largest sum left zero: the estimate of when the change began.
    """

    cusum: float
    mewma: float
    since: float

    @property
    def signal(self) -> bool:
        """True when a chart is beyond its limit."""
        return max(self.cusum, self.mewma) >= 1.0


class Charts:
    """A two-sided CUSUM for each mode and a MEWMA for all, self-starting.

    Half of the false signals allowed go to the MEWMA, the other half to the P CUSUMs
    together. Points at a signal and just before it are not learned from. Learning late
    makes neighbouring scores a little alike at the very beginning: an ARL of 60 points
    is 46 in truth, one of 500 is 480 (simulated), the usual thousands are kept.

    Parameters
    ----------
    p
        Number of coefficients P.
    arl
        Mean number of points between two false signals, all charts together.

    Raises
    ------
    ValueError
        `arl` is out of the range that limits can be solved for.
    """

    def __init__(self, p: int, arl: float) -> None:
        self.scatter = LearnedScatter(p)
        self.cusum_limit = cusum_limit(_REFERENCE, 2.0 * p * arl)
        self.mewma_limit = mewma_limit(p, _WEIGHT, 2.0 * arl)
        self._sums = np.zeros((2, p))
        self._since = np.zeros((2, p))
        self._average = np.zeros(p)
        self._waiting: deque[NDArray[np.float64]] = deque()
        self._share = 1.0

    def allow_for(self, lag_one: float) -> None:
        """Widen the limits for points of some lag-1 autocorrelation φ.

        Sums of such points scatter by (1 + φ) / (1 - φ) more than those of independent
        ones; the scores are made smaller by its root, which is the same.
        """
        share = math.sqrt((1 - lag_one) / (1 + lag_one))
        self._sums *= share / self._share
        self._average *= share / self._share
        self._share = share

    def add(self, time: float, point: NDArray[np.float64]) -> Evidence:
        """Judge a point (P,) that began at `time`, and learn it later."""
        alone, joint = self.scatter.scores(point)
        evidence = self._chart(time, alone, joint)
        if evidence.signal:
            self._waiting.clear()
            return evidence
        self._waiting.append(point)
        if len(self._waiting) > _LEARN_AFTER:
            self.scatter.learn(self._waiting.popleft())
        return evidence

    def _chart(
        self, time: float, alone: NDArray[np.float64], joint: NDArray[np.float64]
    ) -> Evidence:
        alone, joint = self._share * alone, self._share * joint
        at_rest = self._sums <= 0
        self._since[at_rest] = time
        sums = self._sums + np.stack([alone, -alone]) - _REFERENCE
        self._sums = np.clip(sums, 0.0, _CAP * self.cusum_limit)
        self._average = (1 - _WEIGHT) * self._average + _WEIGHT * joint
        squared = float(self._average @ self._average) * (2 - _WEIGHT) / _WEIGHT
        largest = np.unravel_index(int(np.argmax(self._sums)), self._sums.shape)
        return Evidence(
            float(self._sums[largest]) / self.cusum_limit,
            squared / self.mewma_limit,
            float(self._since[largest]),
        )
