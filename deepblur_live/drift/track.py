"""The tracked coefficients at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Gaussian", "TrackState"]


@dataclass(frozen=True)
class TrackState:
    """The tracked coefficients after a frame.

    Parameters
    ----------
    time
        Seconds since the session began.
    coefficients, covariance
        (P,) and (P, P), the filter's mean, and its covariance with what is systematic
        in the estimates; waves rms.
    nis
        Normalised innovation squared of the last update (χ² with P degrees of freedom
        when the covariances are right). NaN where there was no innovation: at the
        first estimate, and for an estimate that cannot be trusted.
    accepted
        False when the innovation gate refused the last estimate.
    reacquired
        True when several estimates in a row said the same new thing and the track
        moved there: a real step (a bump, a bubble), not noise.
    measured
        (P,) the estimate itself, in the track's twin: what charts are made of, for
        the track has a memory. None where there was none, or it was not accepted.
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
    """γ at a time: an estimate, or the filter's state.

    Parameters
    ----------
    time
        Seconds since the session began.
    coefficients, covariance
        (P,) and (P, P), of the fluctuation alone; waves rms.
    """

    time: float
    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def turned(self, signs: NDArray[np.float64]) -> Gaussian:
        """Return the twin by `signs` (P,)."""
        covariance = signs[:, None] * self.covariance * signs
        return Gaussian(self.time, signs * self.coefficients, covariance)
