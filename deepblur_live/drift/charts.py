"""Control charts that detect a change beyond the scatter of the points."""

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

# Tuned to shifts of up to about one standard deviation of a point.
_REFERENCE = 0.5
_WEIGHT = 0.1
# Sums are capped at this multiple of their limit: after a long change they would
# otherwise take just as long to return.
_CAP = 1.5
# A point is learned only when this many more have followed: the first points of a
# change would widen the scatter that the next ones are compared with.
_LEARN_AFTER = 2


@dataclass(frozen=True)
class Evidence:
    """State of the charts after a point.

    Parameters
    ----------
    cusum
        Largest CUSUM of a coefficient relative to its limit: a signal from 1 on.
    mewma
        T² of all coefficients relative to its limit: likewise.
    since
        When the largest CUSUM last left zero: an estimate of when the change began.
    """

    cusum: float
    mewma: float
    since: float

    @property
    def signal(self) -> bool:
        """True when a statistic exceeds its limit."""
        return max(self.cusum, self.mewma) >= 1.0


class Charts:
    """Self-starting charts: a two-sided CUSUM per coefficient and a joint MEWMA.

    Half of the allowed false signals go to the MEWMA, the other half to the P CUSUMs
    together. Points at a signal and just before it are not learned. Delayed learning
    correlates the very first scores a little: simulated, a nominal ARL of 60 points is
    46, one of 500 is 480, and the usual thousands are met.

    Parameters
    ----------
    resolution
        (P,) standard deviation below which the scatter of a coefficient counts as
        rounding.
    arl
        Average run length: mean number of points between two false signals, all charts
        together.
    charted
        Number p of the first coefficients that are charted; None for all. The scatter
        of the others is learned as well.

    Raises
    ------
    ValueError
        `arl` is out of the range for which limits can be computed.
    """

    def __init__(
        self, resolution: NDArray[np.float64], arl: float, charted: int | None = None
    ) -> None:
        p = len(resolution) if charted is None else charted
        self.scatter = LearnedScatter(resolution)
        self.cusum_limit = cusum_limit(_REFERENCE, 2.0 * p * arl)
        self.mewma_limit = mewma_limit(p, _WEIGHT, 2.0 * arl)
        self._sums = np.zeros((2, p))
        self._since = np.zeros((2, p))
        self._average = np.zeros(p)
        self._waiting: deque[NDArray[np.float64]] = deque()
        self._share = 1.0

    def allow_for(self, lag_one: float) -> None:
        """Widen the limits for points with a lag-1 autocorrelation φ.

        The variance of their sums is (1 + φ) / (1 - φ) times that of independent
        points; equivalently, the scores are divided by its square root.
        """
        share = math.sqrt((1 - lag_one) / (1 + lag_one))
        self._sums *= share / self._share
        self._average *= share / self._share
        self._share = share

    def add(self, time: float, point: NDArray[np.float64]) -> Evidence:
        """Chart a point (P,) that began at `time`; it is learned later."""
        alone, joint = self.scatter.scores(point)
        # The scores of the first coefficients do not depend on the others.
        p = len(self._average)
        evidence = self._chart(time, alone[:p], joint[:p])
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
