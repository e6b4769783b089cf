"""Estimates in, means over fixed times out: points far enough apart to be independent.

Estimates of a running average share most of their frames, and a control chart fed with
them would signal all day. Means over several times the average's memory hardly do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Batch", "Batcher", "merge_pairs"]

# A batch with less than this share of the usual estimates waits for more, so long.
_LEAST_SHARE = 0.5
_WAIT = 4.0


@dataclass(frozen=True)
class Batch:
    """The mean of the estimates of some seconds.

    Parameters
    ----------
    begin, end
        Times of its first and last estimate, seconds since the session began.
    count
        How many estimates.
    mean
        (P,) waves rms.
    """

    begin: float
    end: float
    count: int
    mean: NDArray[np.float64]


class Batcher:
    """Gathers estimates into batches.

    Parameters
    ----------
    seconds
        Length of a batch. May be changed between batches.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._usual = 0.0
        self.clear()

    def clear(self) -> None:
        """Forget the batch begun."""
        self._times: list[float] = []
        self._sum: NDArray[np.float64] | float = 0.0

    @property
    def begun(self) -> Batch | None:
        """The batch being gathered, as it is."""
        if not self._times:
            return None
        count = len(self._times)
        mean = np.asarray(self._sum) / count
        return Batch(self._times[0], self._times[-1], count, mean)

    def add(self, time: float, point: NDArray[np.float64]) -> Batch | None:
        """Take an estimate (P,) in; return the batch that it ends, if any.

        The estimate itself then begins the next one.
        """
        done = None
        if self._times and self._full(time - self._times[0]):
            done = self.begun
            assert done is not None
            # A slow average of the counts: what is usual may change with the camera.
            self._usual += (done.count - self._usual) * (0.2 if self._usual else 1.0)
            self.clear()
        self._times.append(time)
        self._sum = self._sum + point
        return done

    def _full(self, lasted: float) -> bool:
        if lasted < self.seconds:
            return False
        enough = len(self._times) >= _LEAST_SHARE * self._usual
        return enough or lasted >= _WAIT * self.seconds

    def lengthen(self) -> None:
        """Make the batches twice as long."""
        self.seconds *= 2
        self._usual *= 2


def merge_pairs(batches: list[Batch]) -> list[Batch]:
    """Return batches twice as long, of neighbours; an odd first one is left out."""
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
