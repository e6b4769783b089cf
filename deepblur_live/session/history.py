"""The session so far in a bounded number of points, for plots of any length."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from deepblur_live.drift import NO_LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from deepblur_live.drift import Limits

__all__ = ["EvenSample", "History", "HistoryBuffer", "through_extremes"]

T = TypeVar("T")


@dataclass(frozen=True)
class History:
    """Points of the session, oldest first; the newest is always included.

    In a long session a point represents several consecutive ones: it has the values of
    the last, and the extremes of all.

    Parameters
    ----------
    times
        (N,) seconds since the session began.
    coefficients, sigma
        (N, P) tracked coefficients and their standard deviations, family's unit.
    truth
        (N, P) true coefficients, NaN where unknown: of those with the same PSF, the
        nearest to the tracked ones.
    change
        (N,) change from the baseline, metric's unit; NaN while there is none.
    strength
        (N,) change of the contrast of details, from the spectra, in nepers.
    limits, strength_limits
        (N, 2) limits in force for both, warning and alarm; NaN where none was.
    low, high
        (N, P) least and greatest coefficients.
    change_low, change_high
        (N,) least and greatest change.
    """

    times: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    sigma: NDArray[np.float64]
    truth: NDArray[np.float64]
    change: NDArray[np.float64]
    strength: NDArray[np.float64]
    limits: NDArray[np.float64]
    strength_limits: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    change_low: NDArray[np.float64]
    change_high: NDArray[np.float64]


class HistoryBuffer:
    """Keeps the whole session in at most `max_points` points.

    When it is full, neighbours are merged, and from then on a point represents two
    (four …) consecutive ones: even spacing over the whole session in constant memory,
    and no excursion is lost. Written by one thread, read by any.

    Parameters
    ----------
    n_coefficients
        Number of coefficients P.
    max_points
        Maximum number of points of a snapshot.
    """

    def __init__(self, n_coefficients: int, max_points: int = 5000) -> None:
        if max_points < 2:
            raise ValueError(f"max_points must be 2 or more, got {max_points}")
        p = self._p = n_coefficients
        self._capacity = max_points // 2 * 2
        # A row: time; the last change, γ, σ, truth, strength and limits; the least
        # change and γ; the greatest change and γ.
        self._newest = slice(0, 7 + 3 * p)
        self._low = slice(7 + 3 * p, 8 + 4 * p)
        self._high = slice(8 + 4 * p, 9 + 5 * p)
        self._table = np.empty((self._capacity, 9 + 5 * p))
        self._length = 0
        self._stride = 1
        self._in_last = 0
        self._appended = 0
        self._snapshot: History | None = None
        self._lock = threading.Lock()

    def append(
        self,
        time: float,
        coefficients: NDArray[np.float64],
        sigma: NDArray[np.float64],
        truth: NDArray[np.float64] | None,
        change: float,
        strength: float = np.nan,
        limits: Limits = NO_LIMITS,
        strength_limits: Limits = NO_LIMITS,
    ) -> None:
        """Add the newest point."""
        unknown = np.full(self._p, np.nan)
        true = unknown if truth is None else truth
        extreme = np.concatenate(([change], coefficients))
        last = [strength, *limits, *strength_limits]
        row = np.concatenate(
            ([time, change], coefficients, sigma, true, last, extreme, extreme)
        )
        with self._lock:
            self._appended += 1
            if self._length and self._in_last < self._stride:
                last = self._table[self._length - 1]
                last[:] = self._merged(last, row)
                self._in_last += 1
            else:
                if self._length == self._capacity:
                    self._halve()
                self._table[self._length] = row
                self._length += 1
                self._in_last = 1
            self._snapshot = None

    def __len__(self) -> int:
        """Return the number of points appended so far."""
        return self._appended

    def _halve(self) -> None:
        half = self._capacity // 2
        self._table[:half] = self._merged(self._table[::2], self._table[1::2])
        self._length = half
        self._stride *= 2

    def _merged(
        self, earlier: NDArray[np.float64], later: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        merged = later.copy()
        low, high = self._low, self._high
        # fmin and fmax ignore a change that was not known yet (NaN).
        merged[..., low] = np.fmin(earlier[..., low], later[..., low])
        merged[..., high] = np.fmax(earlier[..., high], later[..., high])
        return merged

    def snapshot(self) -> History:
        """Return the points so far; the same object until there is a new point."""
        with self._lock:
            if self._snapshot is None:
                table = self._table[: self._length].copy()
                table.flags.writeable = False
                p = self._p
                newest = table[:, self._newest]
                low, high = table[:, self._low], table[:, self._high]
                self._snapshot = History(
                    times=newest[:, 0],
                    coefficients=newest[:, 2 : 2 + p],
                    sigma=newest[:, 2 + p : 2 + 2 * p],
                    truth=newest[:, 2 + 2 * p : 2 + 3 * p],
                    change=newest[:, 1],
                    strength=newest[:, -5],
                    limits=newest[:, -4:-2],
                    strength_limits=newest[:, -2:],
                    low=low[:, 1:],
                    high=high[:, 1:],
                    change_low=low[:, 0],
                    change_high=high[:, 0],
                )
            return self._snapshot


def through_extremes(
    times: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the line through both extremes of every point.

    A point whose extremes are equal stays one point.

    Parameters
    ----------
    times, low, high
        (N,) each.

    Returns
    -------
    times, values
        Up to 2 N each.
    """
    both = np.column_stack((low, high))
    # Keep one of a pair of NaN, so that gaps remain.
    keep = np.column_stack((np.ones(len(low), dtype=bool), high > low))
    return np.repeat(times, 2)[keep.ravel()], both.ravel()[keep.ravel()]


class EvenSample(Generic[T]):
    """Keeps a bounded number of items, evenly spaced among all that were offered."""

    def __init__(self, capacity: int) -> None:
        if capacity < 2 or capacity % 2:
            raise ValueError(f"capacity must be even, 2 or more; got {capacity}")
        self._capacity = capacity
        self._items: list[T] = []
        self._stride = 1
        self._seen = 0

    def offer(self, make: Callable[[], T]) -> None:
        """Offer an item, which is created only if it is kept."""
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
