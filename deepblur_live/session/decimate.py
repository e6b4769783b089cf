"""From a long history to few points that still show every excursion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["decimate_band", "decimate_curve"]


def _bins(n: int, bins: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, n, bins + 1).astype(np.intp))[:-1]


def decimate_curve(
    times: NDArray[np.float64], values: NDArray[np.float64], points: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Thin a curve to at most `points`, keeping the extremes.

    Each of ``points // 2`` bins keeps its lowest and its highest value, in the order
    in which they came; the last point is always kept. NaN values are left out of a bin
    that has others, so gaps longer than a bin stay gaps.

    Parameters
    ----------
    times, values
        (N,) each.
    points
        At least 4.
    """
    n = len(times)
    if n <= points:
        return times, values
    starts = _bins(n - 1, (points - 1) // 2)
    ends = np.append(starts[1:], n - 1)
    missing = np.isnan(values)
    lowest = np.where(missing, np.inf, values)
    highest = np.where(missing, -np.inf, values)
    keep = []
    for start, end in zip(starts, ends, strict=True):
        keep.append(start + int(np.argmin(lowest[start:end])))
        keep.append(start + int(np.argmax(highest[start:end])))
    chosen = np.unique(np.append(keep, n - 1))
    return times[chosen], values[chosen]


def decimate_band(
    times: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    points: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Thin a band to at most `points` times; each bin keeps its full extent.

    Rows where either edge is NaN are dropped first.
    """
    known = ~(np.isnan(lower) | np.isnan(upper))
    times, lower, upper = times[known], lower[known], upper[known]
    n = len(times)
    if n <= points:
        return times, lower, upper
    starts = _bins(n, points)
    # Keep both ends, so that the band reaches as far as its curve.
    centres = times[(starts + np.append(starts[1:], n) - 1) // 2].copy()
    centres[0], centres[-1] = times[0], times[-1]
    return (
        centres,
        np.minimum.reduceat(lower, starts),
        np.maximum.reduceat(upper, starts),
    )
