"""Coefficients over the field: their mean and their slope along rows and columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LinearTrend", "fit_trend"]

# With fewer beads only the mean is fitted: a slope would follow their errors.
_FEWEST = 8


@dataclass(frozen=True, eq=False)
class LinearTrend:
    """γ(row, column) = γ_0 + a·(row/H - ½) + b·(column/W - ½).

    Parameters
    ----------
    terms
        (3, P): γ_0 in the middle of the frame, a and b. The slopes are 0 where there
        were too few beads.
    shape
        (H, W) of the frame.
    scatter
        (P,) standard deviation of single beads about it.
    """

    terms: NDArray[np.float64]
    shape: tuple[int, int]
    scatter: NDArray[np.float64]

    def at(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the coefficients (..., P) at rows and columns (..., 2), pixels."""
        values: NDArray[np.float64] = _design(place, self.shape) @ self.terms
        return values


def fit_trend(
    coefficients: NDArray[np.float64],
    places: NDArray[np.float64],
    shape: tuple[int, int],
) -> LinearTrend:
    """Return the least-squares trend of beads' coefficients (n, P) at places (n, 2)."""
    columns = 3 if len(places) >= _FEWEST else 1
    design = _design(places, shape)[:, :columns]
    found, *_ = np.linalg.lstsq(design, coefficients, rcond=None)
    terms = np.zeros((3, coefficients.shape[1]))
    terms[:columns] = found
    left = coefficients - design @ found
    scatter = np.sqrt(np.square(left).sum(0) / max(1, len(places) - columns))
    return LinearTrend(terms, shape, scatter)


def _design(place: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    place = np.asarray(place, dtype=np.float64)
    unit = place / np.array(shape) - 0.5
    return np.concatenate([np.ones((*unit.shape[:-1], 1)), unit], -1)
