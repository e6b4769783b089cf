"""How large a change of the wavefront is, less what its own scatter adds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["change_size", "direction"]

_TINY = 1e-12


def change_size(
    difference: NDArray[np.float64],
    covariance: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> tuple[float, float]:
    """Return the size of a change and its standard deviation, waves rms.

    With d the difference and Σ its covariance, in a family whose squared rms is
    ``Σ wᵢ dᵢ²``: change² = |d|² - trace(Σ), for scatter alone makes |d|² that large.

    Parameters
    ----------
    difference
        (P,) coefficients less baseline.
    covariance
        (P, P) of the difference.
    weights
        (P,) weight of each squared coefficient in the squared wavefront rms.
    """
    weighted = weights * difference
    square = float(weighted @ difference)
    debiased = square - float(weights @ covariance.diagonal())
    variance = float(weighted @ covariance @ weighted) / max(square, _TINY)
    return math.sqrt(max(0.0, debiased)), math.sqrt(variance)


def direction(
    difference: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (P,) v such that v·γ is γ's share along a difference, waves rms."""
    along = weights * difference
    unit: NDArray[np.float64] = along / math.sqrt(float(along @ difference))
    return unit
