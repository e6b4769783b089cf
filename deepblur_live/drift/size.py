"""The size of a change in a family's metric, corrected for its own scatter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["change_size", "direction", "scatter_size"]

_TINY = 1e-12


def change_size(
    difference: NDArray[np.float64],
    covariance: NDArray[np.float64],
    metric: NDArray[np.float64],
) -> tuple[float, float]:
    """Return the size of a change and its standard deviation, in the metric's unit.

    With d the difference, Σ its covariance and M the metric, the expectation of dᵀMd
    exceeds the true value by tr(MΣ); the squared size is therefore dᵀMd - tr(MΣ).

    Parameters
    ----------
    difference
        (P,) coefficients less baseline.
    covariance
        (P, P) of the difference.
    metric
        (P, P), symmetric.
    """
    weighted = metric @ difference
    square = float(weighted @ difference)
    debiased = square - float(np.sum(metric * covariance))
    variance = float(weighted @ covariance @ weighted) / max(square, _TINY)
    return math.sqrt(max(0.0, debiased)), math.sqrt(variance)


def scatter_size(covariance: NDArray[np.float64], metric: NDArray[np.float64]) -> float:
    """Return the rms size √tr(MΣ) of deviations of a covariance Σ (P, P)."""
    return math.sqrt(float(np.sum(metric * covariance)))


def direction(
    difference: NDArray[np.float64], metric: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (P,) v such that v·γ is the component of γ along a difference (P,)."""
    along = metric @ difference
    unit: NDArray[np.float64] = along / math.sqrt(float(along @ difference))
    return unit
