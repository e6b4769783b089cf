"""The coefficients over time: a Kalman random walk that knows the twin."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtri

from deepblur_live.drift.track import Gaussian, TrackState
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
# Share of the newest estimate's systematic covariance in its running mean.
_SLOWLY = 0.1


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
    observed, not with the number of estimates.

    Part of an estimate's error is **systematic**: it belongs to the specimen and is the
    same in frame after frame, so no averaging over time makes it smaller, and a change
    of γ shows in spite of it. The filter runs on the rest, the fluctuation, and follows
    it closely; the bands are those of the filter and of the systematic part together.
    Gate and NIS are the fluctuation's; correlation makes the NIS smaller than P.

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
        not know.
    systematic, fluctuating
        Variance of the systematic part and of the fluctuation, each over the variance
        that an estimate states; together more than 1 where estimates claim too much.
        The default is for the shipped identification: on validation pictures 0.85 of
        what should hold 68, 90 or 95 % of the errors (`reach`) holds them.
        (``tools/simulate_drift.py --measure DATA --validation`` measures it.) A
        variance 1.3 times as large makes that 0.74; other pictures are less obliging.
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
        systematic: float = 1.3,
        fluctuating: float = 0.25,
        gate: float = 0.999,
        reacquire_after: int = 3,
        averaging_s: float = 0.0,
    ) -> None:
        if not diffusion > 0 or not floor > 0:
            raise ValueError(
                "diffusion and floor must be positive, in waves; "
                f"got {diffusion} and {floor}"
            )
        if not systematic >= 0 or not fluctuating >= 0:
            raise ValueError(
                "systematic and fluctuating are shares of a variance, 0 or more; "
                f"got {systematic} and {fluctuating}"
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
        self._alike, self._fluctuating = systematic, fluctuating
        self._threshold = float(chdtri(family.n_coefficients, 1 - gate))
        self._reacquire_after = reacquire_after
        self._averaging_s = averaging_s
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next trusted estimate starts a new track."""
        self._filter: Gaussian | None = None
        n = self._family.n_coefficients
        self._systematic = np.zeros((n, n))
        self._last: TrackState | None = None
        self._last_used = 0.0
        self._refused: list[Gaussian] = []

    def predict(self, time: float) -> TrackState | None:
        """Return the track carried on to `time`, or None before the first estimate.

        Nothing is kept. A time before the last one counts as no time passed.
        """
        ahead = self._ahead(time)
        if ahead is None or self._last is None:
            return None
        return replace(
            self._last,
            time=ahead.time,
            coefficients=ahead.coefficients,
            covariance=ahead.covariance + self._systematic,
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
        covariance = self._covariance(estimate)
        predicted = self._ahead(time)
        if covariance is None:
            return None if predicted is None else self._keep(predicted, np.nan)
        coefficients = np.asarray(estimate.coefficients, dtype=np.float64)
        model_error = self._floor**2 * np.eye(len(coefficients))
        fluctuation = self._fluctuating * covariance + model_error
        measured = Gaussian(time, coefficients, fluctuation)
        if predicted is None:
            return self._start(measured, covariance)
        measured, signs, nis = self._align(measured, predicted)
        if nis <= self._threshold:
            self._refused.clear()
            # What is systematic changes with the specimen: slowly, but for a step.
            new = self._alike * (signs[:, None] * covariance * signs)
            self._systematic = self._systematic + _SLOWLY * (new - self._systematic)
            return self._filtered(predicted, measured, nis)
        return self._refuse(predicted, measured, covariance, nis)

    def _ahead(self, time: float) -> Gaussian | None:
        state = self._filter
        if state is None:
            return None
        now = max(time, state.time)
        walk = np.eye(len(state.coefficients)) * self._diffusion**2
        grown = state.covariance + walk * (now - state.time)
        return Gaussian(now, state.coefficients, grown)

    def _covariance(self, estimate: Estimate) -> NDArray[np.float64] | None:
        """Return the estimate's covariance (P, P), made whole; None if untrusted."""
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
        whole: NDArray[np.float64] = (vectors * np.maximum(values, 0.0)) @ vectors.T
        return whole

    def _start(self, measured: Gaussian, stated: NDArray[np.float64]) -> TrackState:
        canonical = self._family.canonical(measured.coefficients)
        twins = self._signs * measured.coefficients
        signs = self._signs[np.argmin(np.sum((twins - canonical) ** 2, axis=1))]
        self._systematic = self._alike * (signs[:, None] * stated * signs)
        self._last_used = measured.time
        start = measured.turned(signs)
        return self._keep(start, np.nan, start.coefficients)

    def _keep(
        self,
        state: Gaussian,
        nis: float,
        measured: NDArray[np.float64] | None = None,
        reacquired: bool = False,
    ) -> TrackState:
        """Take a state for the filter's; return it as the track's."""
        self._filter = state
        self._last = TrackState(
            state.time,
            state.coefficients,
            state.covariance + self._systematic,
            nis,
            measured is not None,
            reacquired,
            measured,
        )
        return self._last

    def _align(
        self, measured: Gaussian, reference: Gaussian
    ) -> tuple[Gaussian, NDArray[np.float64], float]:
        """Return the twin nearest `reference`, its signs, and its squared distance."""
        best, chosen, least = measured, self._signs[0], np.inf
        for signs in self._signs:
            twin = measured.turned(signs)
            innovation = twin.coefficients - reference.coefficients
            spread = reference.covariance + twin.covariance
            distance = float(innovation @ np.linalg.solve(spread, innovation))
            if distance < least:
                best, chosen, least = twin, signs, distance
        return best, chosen, least

    def _filtered(
        self, predicted: Gaussian, measured: Gaussian, nis: float
    ) -> TrackState:
        noise = measured.covariance * self._inflation(predicted.time)
        gain = np.linalg.solve(predicted.covariance + noise, predicted.covariance).T
        rest = np.eye(len(gain)) - gain
        # Joseph's form stays symmetric and positive whatever the rounding.
        covariance = rest @ predicted.covariance @ rest.T + gain @ noise @ gain.T
        innovation = measured.coefficients - predicted.coefficients
        self._last_used = predicted.time
        filtered = Gaussian(
            predicted.time,
            predicted.coefficients + gain @ innovation,
            (covariance + covariance.T) / 2,
        )
        return self._keep(filtered, nis, measured.coefficients)

    def _refuse(
        self,
        predicted: Gaussian,
        measured: Gaussian,
        stated: NDArray[np.float64],
        nis: float,
    ) -> TrackState:
        if self._refused:
            before = self._refused[-1]
            # Agreement is asked less strictly than the gate: a fluctuation that was
            # understated must not keep the track where it is for ever.
            wide = replace(before, covariance=before.covariance + stated)
            measured, signs, distance = self._align(measured, wide)
            stated = signs[:, None] * stated * signs
            if distance > self._threshold:
                self._refused.clear()
        self._refused.append(measured)
        lasted = measured.time - self._refused[0].time
        if len(self._refused) < self._reacquire_after or lasted < self._averaging_s:
            return self._keep(predicted, nis)
        _log.info(
            "the track stepped at %.1f s, after %d estimates in agreement",
            predicted.time,
            len(self._refused),
        )
        self._refused.clear()
        self._last_used = predicted.time
        self._systematic = self._alike * stated
        # The newest alone: the ones before still average over the step itself.
        newest = replace(measured, time=predicted.time)
        return self._keep(newest, nis, newest.coefficients, reacquired=True)

    def _inflation(self, now: float) -> float:
        since = now - self._last_used
        if since >= self._averaging_s:
            return 1.0
        return min(self._averaging_s / max(since, 1e-9), _MAX_INFLATION)
