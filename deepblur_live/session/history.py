"""The session so far, in a bounded number of points, for a plot of any length."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["EvenSample", "History", "HistoryBuffer"]

T = TypeVar("T")


@dataclass(frozen=True)
class History:
    """Points of the session, oldest first, the newest always among them.

    Parameters
    ----------
    times
        (N,) seconds since the session began.
    coefficients, sigma
        (N, P) tracked coefficients and their standard deviations, waves rms.
    truth
        (N, P) true coefficients, NaN where unknown, each in the twin nearest the
        tracked ones (the PSF is the same).
    change
        (N,) change from the baseline, waves rms; NaN while there is none.
    """

    times: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    sigma: NDArray[np.float64]
    truth: NDArray[np.float64]
    change: NDArray[np.float64]


class HistoryBuffer:
    """Keeps the whole session visible in at most `max_points` points.

    When full, every second point goes, and from then on only every second (fourth …)
    is kept: even spacing over the whole session, at constant memory. Written by one
    thread, read by any.

    Parameters
    ----------
    n_coefficients
        P.
    max_points
        Most points of a snapshot.
    """

    def __init__(self, n_coefficients: int, max_points: int = 5000) -> None:
        if max_points < 3:
            raise ValueError(f"max_points must be 3 or more, got {max_points}")
        self._p = n_coefficients
        # One place is the newest point's; an even number halves without a remainder.
        self._capacity = (max_points - 1) // 2 * 2
        self._table = np.empty((self._capacity + 1, 2 + 3 * n_coefficients))
        self._kept = 0
        self._seen = 0
        self._stride = 1
        self._length = 0
        self._snapshot: History | None = None
        self._lock = threading.Lock()

    def append(
        self,
        time: float,
        coefficients: NDArray[np.float64],
        sigma: NDArray[np.float64],
        truth: NDArray[np.float64] | None,
        change: float,
    ) -> None:
        """Add the newest point."""
        unknown = np.full(self._p, np.nan)
        true = unknown if truth is None else truth
        row = np.concatenate(([time, change], coefficients, sigma, true))
        with self._lock:
            if self._kept == self._capacity:
                half = self._capacity // 2
                self._table[:half] = self._table[: self._capacity : 2].copy()
                self._kept = half
                self._stride *= 2
            self._table[self._kept] = row
            self._length = self._kept + 1
            if self._seen % self._stride == 0:
                self._kept += 1
            self._seen += 1
            self._snapshot = None

    def snapshot(self) -> History:
        """Return the points so far; the same object until there is a new point."""
        with self._lock:
            if self._snapshot is None:
                table = self._table[: self._length].copy()
                table.flags.writeable = False
                p = self._p
                self._snapshot = History(
                    times=table[:, 0],
                    coefficients=table[:, 2 : 2 + p],
                    sigma=table[:, 2 + p : 2 + 2 * p],
                    truth=table[:, 2 + 2 * p :],
                    change=table[:, 1],
                )
            return self._snapshot


class EvenSample(Generic[T]):
    """Keeps a bounded number of items, spread evenly over all that were offered."""

    def __init__(self, capacity: int) -> None:
        if capacity < 2 or capacity % 2:
            raise ValueError(f"capacity must be even, 2 or more; got {capacity}")
        self._capacity = capacity
        self._items: list[T] = []
        self._stride = 1
        self._seen = 0

    def offer(self, make: Callable[[], T]) -> None:
        """Offer an item; it is made only when it is kept."""
        if self._seen % self._stride == 0:
            if len(self._items) == self._capacity:
                del self._items[1::2]
                self._stride *= 2
            if self._seen % self._stride == 0:
                self._items.append(make())
        self._seen += 1

    @property
    def items(self) -> tuple[T, ...]:
        """The items kept, oldest first."""
        return tuple(self._items)
