"""Whether the first estimates after a focus sweep agree with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur import ResolvedBy, nearest, orbit
from deepblur_live.drift import random_walk
from deepblur_live.session.verification import VerificationState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, ErrorModel, Estimate
    from deepblur_live.drift import Gaussian

__all__ = ["KnownBlur", "SweepJudge"]

# Number of estimates whose mean is judged; up to the second number if these do not
# decide (docs/decisions/0140).
_LEAST, _MOST = 3, 10
# Probabilities of the limits of agreement and of contradiction.
_AGREES, _CONTRADICTS = 0.95, 0.99


@dataclass(frozen=True)
class KnownBlur:
    """Coefficients that a focus sweep has measured.

    Parameters
    ----------
    blur
        The coefficients, their covariance, and the time from which they hold.
    known_to
        Largest standard deviation of a coefficient at the time of the sweep.
    turn_known
        Whether the image decided between γ and its rotation by 180°.
    clock
        Time of the sweep, such as "12:03".
    """

    blur: Gaussian
    known_to: float
    turn_known: bool
    clock: str


class SweepJudge:
    """Compares the trusted estimates after a sweep with it, until there is a verdict.

    A coefficient contradicts the sweep if the two differ by more than the tolerance
    *and* by more than 99 % of the errors; it agrees if they differ by less than the
    tolerance, or by less than 95 % of the errors and the largest difference. In
    between, more estimates are awaited. The sign of the even modes, which no frame
    determines, is ignored.

    Parameters
    ----------
    family
        The blurs.
    errors
        The estimates' error model.
    known
        The result of the sweep.
    tolerance, largest
        Size of a difference that does not matter, and of the largest one with which
        uncertain estimates are still verified, in the unit of the family's metric.
    """

    def __init__(
        self,
        family: BlurFamily,
        errors: ErrorModel,
        known: KnownBlur,
        tolerance: float,
        largest: float,
    ) -> None:
        self._family, self._known = family, known
        self._tolerance, self._largest = tolerance, largest
        self._factors = [errors.coverage_factor(p) for p in (_AGREES, _CONTRADICTS)]
        kinds = [ResolvedBy.NEVER]
        if not known.turn_known:
            kinds.append(ResolvedBy.IMAGE)
        self._equivalents = orbit(family, *kinds)
        self._walk = random_walk(family)
        self._estimates: list[NDArray[np.float64]] = []
        self._covariances: list[NDArray[np.float64]] = []

    def add(
        self, time: float, estimate: Estimate
    ) -> tuple[VerificationState, str] | None:
        """Add an estimate; return state and reason when it is decided.

        Parameters
        ----------
        time
            Capture of the frame, seconds since the session began; earlier ones than the
            sweep's do not count.
        estimate
            Ignored unless it is trusted.
        """
        blur = self._known.blur
        if not estimate.trusted or time < blur.time:
            return None
        drifted = blur.covariance + (time - blur.time) * self._walk
        covariance = estimate.covariance + drifted
        self._estimates.append(
            nearest(
                estimate.coefficients,
                blur.coefficients,
                self._equivalents,
                np.asarray(np.linalg.inv(covariance), dtype=np.float64),
            )
        )
        self._covariances.append(covariance)
        if len(self._estimates) < _LEAST:
            return None
        return self._decide()

    def _decide(self) -> tuple[VerificationState, str] | None:
        expected, clock = self._known.blur.coefficients, self._known.clock
        found = np.mean(self._estimates, axis=0)
        # All estimates of one specimen share most of their error.
        sigma = np.sqrt(np.diag(np.mean(self._covariances, axis=0)))
        off = np.abs(found - expected)
        size = off * np.sqrt(np.diag(self._family.metric.matrix))
        agrees, contradicts = self._factors
        wrong = (size > self._tolerance) & (off > contradicts * sigma)
        if wrong.any():
            worst = int(np.argmax(np.where(wrong, off / sigma, 0)))
            return (
                VerificationState.CONTRADICTED,
                f"the focus sweep at {clock} measured {self._family.names[worst]} "
                f"{expected[worst]:+.3f} {self._family.unit}, but the frames give "
                f"{found[worst]:+.3f}",
            )
        within = (off <= agrees * sigma) & (size <= self._largest)
        if np.all((size <= self._tolerance) | within):
            return VerificationState.VERIFIED, f"a focus sweep at {clock}"
        if len(self._estimates) < _MOST:
            return None
        return (
            VerificationState.NOT_VERIFIED,
            f"frames and the focus sweep at {clock} differ, but within their "
            "uncertainty",
        )
