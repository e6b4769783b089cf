"""The coefficients over time: a Kalman random walk that knows the twin."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtri

from deepblur_live.drift.twins import twin_signs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.optics.estimate import Estimate
    from deepblur_live.optics.family import BlurFamily

__all__ = ["TrackState", "Tracker"]

_log = logging.getLogger(__name__)

# An estimate that repeats the last one's instant brings nothing new; a finite bound
# keeps the algebra finite.
_MAX_INFLATION = 1e6


@dataclass(frozen=True)
class TrackState:
    """The tracked coefficients after a frame.

    Parameters
    ----------
    time
        Seconds since the session began.
    coefficients, covariance
        (P,) and (P, P), the filter's mean and covariance; waves rms.
    nis
        Normalised innovation squared of the last update (χ² with P degrees of freedom
        when the covariances are right). NaN where there was no innovation: at the
        first estimate, and for an estimate that cannot be trusted.
    accepted
        False when the innovation gate refused the last estimate.
    reacquired
        True when several estimates in a row said the same new thing and the track
        moved there: a real step (a bump, a bubble), not noise.
    """

    time: float
    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]
    nis: float
    accepted: bool
    reacquired: bool = False


@dataclass(frozen=True)
class _Measurement:
    time: float
    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]


class Tracker:
    """A Kalman filter of P random walks, on estimates that come with a covariance.

    Of the blurs with the same PSF (:func:`~deepblur_live.drift.twins.twin_signs`) the
    one nearest the prediction, in Mahalanobis distance, is taken: a defocus that
    crosses zero goes on, whichever twin the identification named. The first estimate
    has no past, and starts at ``family.canonical``.

    Successive estimates are **correlated**: each comes from a running average of
    spectra and shares most of its frames with the one before. Taken as independent
    they would make the bands too narrow, by about ``sqrt(averaging_s / interval)``.
    With `averaging_s` given, an estimate that comes `dt` after the last one used
    weighs ``dt / averaging_s`` of a fresh one: the bands then shrink with the time
    observed, not with the number of estimates. Gate and NIS use the estimate's own
    covariance; correlation makes the NIS somewhat smaller than P.

    Parameters
    ----------
    family
        Gives P, the canonical twin and the equivalents.
    diffusion
        Random walk of every coefficient, waves rms per √s: 0.003 is 0.07 waves in
        ten minutes. Larger follows faster and smooths less.
    floor
        Model error of the identification, waves rms per coefficient, added in
        quadrature to every estimate's own uncertainty: what the fit's curvature does
        not know (the specimen's spectrum, modes outside the family).
    gate
        Probability of the χ² quantile beyond which an innovation is refused.
    reacquire_after
        So many refused estimates in a row that agree with one another, over at least
        `averaging_s`, are a real step.
    averaging_s
        Seconds over which the identification averages; 0 for independent estimates.
    """

    def __init__(
        self,
        family: BlurFamily,
        *,
        diffusion: float = 0.003,
        floor: float = 0.004,
        gate: float = 0.999,
        reacquire_after: int = 3,
        averaging_s: float = 0.0,
    ) -> None:
        if not diffusion > 0 or not floor > 0:
            raise ValueError(
                "diffusion and floor must be positive, in waves; "
                f"got {diffusion} and {floor}"
            )
        if not 0 < gate < 1:
            raise ValueError(f"gate is a probability between 0 and 1; got {gate}")
        if reacquire_after < 2 or averaging_s < 0:
            raise ValueError(
                "reacquire_after must be 2 or more and averaging_s not negative; "
                f"got {reacquire_after} and {averaging_s}"
            )
        self._family = family
        self._signs = twin_signs(family)
        self._diffusion = diffusion
        self._floor = floor
        self._threshold = float(chdtri(family.n_coefficients, 1 - gate))
        self._reacquire_after = reacquire_after
        self._averaging_s = averaging_s
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next trusted estimate starts a new track."""
        self._state: TrackState | None = None
        self._last_used = 0.0
        self._refused: list[_Measurement] = []

    def predict(self, time: float) -> TrackState | None:
        """Return the track carried on to `time`, or None before the first estimate.

        Nothing is kept. A time before the last one counts as no time passed.
        """
        state = self._state
        if state is None:
            return None
        now = max(time, state.time)
        grown = state.covariance + self._walk(now - state.time)
        return TrackState(
            now, state.coefficients, grown, state.nis, state.accepted, state.reacquired
        )

    def update(self, time: float, estimate: Estimate) -> TrackState | None:
        """Take one estimate in.

        Parameters
        ----------
        time
            Seconds since the session began. Any spacing; a time before the last one
            counts as no time passed.
        estimate
            Not used unless ``estimate.trusted`` and its numbers are finite.

        Returns
        -------
        TrackState or None
            ``accepted`` says whether the estimate moved the track. None as long as no
            estimate could be trusted.

        Raises
        ------
        ValueError
            The estimate has another number of coefficients than the family.
        """
        measured = self._measurement(time, estimate)
        predicted = self.predict(time)
        if measured is None:
            if predicted is not None:
                self._state = _not_accepted(predicted, np.nan)
            return self._state
        if predicted is None:
            self._state = self._start(measured)
            return self._state
        measured, nis = self._align(measured, predicted)
        if nis <= self._threshold:
            self._refused.clear()
            self._state = self._filtered(predicted, measured, nis)
        else:
            self._state = self._refuse(predicted, measured, nis)
        return self._state

    def _measurement(self, time: float, estimate: Estimate) -> _Measurement | None:
        if not estimate.trusted:
            return None
        n = self._family.n_coefficients
        coefficients = np.asarray(estimate.coefficients, dtype=np.float64)
        covariance = np.asarray(estimate.covariance, dtype=np.float64)
        if coefficients.shape != (n,) or covariance.shape != (n, n):
            raise ValueError(
                f"an estimate of {n} coefficients has shapes ({n},) and ({n}, {n}); "
                f"got {coefficients.shape} and {covariance.shape}"
            )
        if not (np.isfinite(coefficients).all() and np.isfinite(covariance).all()):
            return None
        # A curvature is positive only near its minimum: clip what is not.
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        values = np.maximum(values, 0.0) + self._floor**2
        return _Measurement(time, coefficients, (vectors * values) @ vectors.T)

    def _start(self, measured: _Measurement) -> TrackState:
        canonical = self._family.canonical(measured.coefficients)
        twins = self._signs * measured.coefficients
        signs = self._signs[np.argmin(np.sum((twins - canonical) ** 2, axis=1))]
        self._last_used = measured.time
        return TrackState(
            measured.time,
            signs * measured.coefficients,
            signs[:, None] * measured.covariance * signs,
            nis=np.nan,
            accepted=True,
        )

    def _align(
        self, measured: _Measurement, reference: TrackState | _Measurement
    ) -> tuple[_Measurement, float]:
        """Return the twin nearest `reference`, and its squared distance."""
        best, least = measured, np.inf
        for signs in self._signs:
            twin = _Measurement(
                measured.time,
                signs * measured.coefficients,
                signs[:, None] * measured.covariance * signs,
            )
            innovation = twin.coefficients - reference.coefficients
            spread = reference.covariance + twin.covariance
            distance = float(innovation @ np.linalg.solve(spread, innovation))
            if distance < least:
                best, least = twin, distance
        return best, least

    def _filtered(
        self, predicted: TrackState, measured: _Measurement, nis: float
    ) -> TrackState:
        noise = measured.covariance * self._inflation(predicted.time)
        gain = np.linalg.solve(predicted.covariance + noise, predicted.covariance).T
        rest = np.eye(len(gain)) - gain
        # Joseph's form stays symmetric and positive whatever the rounding.
        covariance = rest @ predicted.covariance @ rest.T + gain @ noise @ gain.T
        innovation = measured.coefficients - predicted.coefficients
        self._last_used = predicted.time
        return TrackState(
            predicted.time,
            predicted.coefficients + gain @ innovation,
            (covariance + covariance.T) / 2,
            nis,
            accepted=True,
        )

    def _refuse(
        self, predicted: TrackState, measured: _Measurement, nis: float
    ) -> TrackState:
        if self._refused:
            before = self._refused[-1]
            measured, distance = self._align(measured, before)
            if distance > self._threshold:
                self._refused.clear()
        self._refused.append(measured)
        lasted = measured.time - self._refused[0].time
        if len(self._refused) < self._reacquire_after or lasted < self._averaging_s:
            return _not_accepted(predicted, nis)
        _log.info(
            "the track stepped at %.1f s, after %d estimates in agreement",
            predicted.time,
            len(self._refused),
        )
        self._refused.clear()
        self._last_used = predicted.time
        # The newest alone: the ones before still average over the step itself.
        return TrackState(
            predicted.time,
            measured.coefficients,
            measured.covariance,
            nis,
            accepted=True,
            reacquired=True,
        )

    def _walk(self, seconds: float) -> NDArray[np.float64]:
        return np.eye(self._family.n_coefficients) * self._diffusion**2 * seconds

    def _inflation(self, now: float) -> float:
        since = now - self._last_used
        if since >= self._averaging_s:
            return 1.0
        return min(self._averaging_s / max(since, 1e-9), _MAX_INFLATION)


def _not_accepted(predicted: TrackState, nis: float) -> TrackState:
    return TrackState(
        predicted.time, predicted.coefficients, predicted.covariance, nis, False
    )
