"""Batch means: averages of estimates over a fixed time, nearly independent.

Estimates from a running average share most of their frames, and a control chart of them
would signal constantly. Means over several times the memory of the average hardly share
any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Batch", "Batcher", "merge_pairs"]

# A batch with less than this share of the usual number of estimates is extended, to at
# most this multiple of its length.
_MIN_SHARE = 0.5
_MAX_EXTENSION = 4.0


@dataclass(frozen=True)
class Batch:
    """The mean of the estimates within a few seconds.

    Parameters
    ----------
    begin, end
        Times of the first and last estimate, seconds since the session began.
    count
        Number of estimates.
    mean
        (P,) coefficients.
    """

    begin: float
    end: float
    count: int
    mean: NDArray[np.float64]


class Batcher:
    """Averages estimates in batches.

    Parameters
    ----------
    seconds
        Length of a batch.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # Estimates in a batch, a slow average: the camera's interval may change.
        self._usual = 0.0
        self._times: list[float] = []
        self._sum: NDArray[np.float64] | float = 0.0

    def add(self, time: float, point: NDArray[np.float64]) -> Batch | None:
        """Add an estimate (P,); return the batch that is complete with it, if any.

        The estimate itself is then the first of the next batch.
        """
        done = None
        if self._times and self._full(time - self._times[0]):
            count = len(self._times)
            mean = np.asarray(self._sum) / count
            done = Batch(self._times[0], self._times[-1], count, mean)
            self._usual += (count - self._usual) * (0.2 if self._usual else 1.0)
            self._times, self._sum = [], 0.0
        self._times.append(time)
        self._sum = self._sum + point
        return done

    def _full(self, lasted: float) -> bool:
        if lasted < self.seconds:
            return False
        enough = len(self._times) >= _MIN_SHARE * self._usual
        return enough or lasted >= _MAX_EXTENSION * self.seconds

    def lasted(self, now: float) -> float:
        """Return the seconds since the present batch began, at most its length."""
        return min(now - self._times[0], self.seconds) if self._times else 0.0

    def lengthen(self) -> None:
        """Double the length of the batches."""
        self.seconds *= 2
        self._usual *= 2


def merge_pairs(batches: list[Batch]) -> list[Batch]:
    """Return batches merged in pairs; of an odd number the first is left out."""
    even = batches[len(batches) % 2 :]
    pairs = zip(even[::2], even[1::2], strict=True)
    return [
        Batch(
            a.begin,
            b.end,
            a.count + b.count,
            (a.count * a.mean + b.count * b.mean) / (a.count + b.count),
        )
        for a, b in pairs
    ]
