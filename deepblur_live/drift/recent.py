"""Running mean over the last seconds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RecentMean"]

# The running sum is recomputed this often: rounding errors would accumulate.
_RECOMPUTE_EVERY = 1000


class RecentMean:
    """The mean of the points of the last `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._points: deque[tuple[float, NDArray[np.float64]]] = deque()
        self._sum: NDArray[np.float64] | float = 0.0
        self._added = 0

    @property
    def mean(self) -> NDArray[np.float64]:
        """(P,) mean of the recent points; of the last one if no other is recent."""
        return np.asarray(self._sum) / len(self._points)

    @property
    def count(self) -> int:
        """Number of recent points."""
        return len(self._points)

    def add(self, time: float, point: NDArray[np.float64]) -> None:
        """Add a point (P,) and drop those that are no longer recent."""
        self._points.append((time, point))
        self._sum = self._sum + point
        while self._points[0][0] <= time - self.seconds and len(self._points) > 1:
            self._sum = self._sum - self._points.popleft()[1]
        self._added += 1
        if self._added % _RECOMPUTE_EVERY == 0:
            self._sum = np.sum([point for _, point in self._points], axis=0)
