"""The tracked coefficients at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.blur.symmetry import Symmetry

__all__ = ["Gaussian", "TrackState"]


@dataclass(frozen=True)
class TrackState:
    """The tracked coefficients after a frame.

    Parameters
    ----------
    time
        Seconds since the session began.
    coefficients, covariance
        (P,) and (P, P) of the filter, the systematic error of the estimates included;
        in the family's unit.
    nis
        Normalised innovation squared of the last update: χ² with P degrees of freedom
        when the covariances are right. NaN without an innovation: at the first
        estimate, and for an estimate that is not trusted.
    accepted
        False when there was no trusted estimate, or the gate rejected it.
    reacquired
        True when several consecutive estimates agreed on new coefficients and the track
        moved there: a real step (a knock, a bubble), not noise.
    measured
        (P,) the accepted estimate itself, aligned with the track; None when none was
        accepted. Control charts use it (docs/decisions/0040).
    """

    time: float
    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]
    nis: float
    accepted: bool
    reacquired: bool = False
    measured: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Gaussian:
    """Normally distributed coefficients at a time: an estimate, or the filter's state.

    Parameters
    ----------
    time
        Seconds since the session began.
    coefficients, covariance
        (P,) and (P, P), of the fluctuating part alone; in the family's unit.
    """

    time: float
    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def transformed(self, symmetry: Symmetry) -> Gaussian:
        """Return the distribution of the equivalent coefficients."""
        return Gaussian(
            self.time,
            symmetry.apply(self.coefficients),
            symmetry.covariance(self.covariance),
        )
