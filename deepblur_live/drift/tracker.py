"""Kalman filter of the coefficients over time."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtri

from deepblur_live.blur.symmetry import ResolvedBy, orbit
from deepblur_live.drift.track import Gaussian, TrackState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.estimate import ErrorModel, Estimate
    from deepblur_live.blur.family import BlurFamily
    from deepblur_live.blur.symmetry import Symmetry

__all__ = ["Tracker", "random_walk"]

_log = logging.getLogger(__name__)

# Random walk per √s, as a share of the prior scale: 0.003 waves for Zernike modes,
# which is 0.07 waves in ten minutes.
_DIFFUSION = 0.02
# Probability of the χ² quantile beyond which an innovation is rejected.
_GATE = 0.999
# After this many consecutive rejected estimates that agree with one another, over at
# least the averaging time, the track moves to them.
_REACQUIRE_AFTER = 3
# An estimate at the time of the last one adds nothing; a finite bound keeps the algebra
# finite.
_MAX_INFLATION = 1e6
# Weight of the newest estimate in the running mean of the systematic covariance.
_SYSTEMATIC_WEIGHT = 0.1


def random_walk(family: BlurFamily) -> NDArray[np.float64]:
    """Return the covariance (P, P) of the drift of γ in one second."""
    return np.diag((_DIFFUSION * family.prior.scale) ** 2)


class Tracker:
    """A Kalman filter of P random walks, for estimates that state a covariance.

    Of the equivalent coefficients with the same PSF, those nearest the prediction in
    Mahalanobis distance are used: a defocus that crosses zero continues, whichever sign
    the identification returned. The first estimate starts at ``family.canonical``.

    Successive estimates are **correlated**: each comes from a running average of
    spectra and shares most of its frames with the previous one. Treating them as
    independent would make the error bands too narrow, by about
    ``sqrt(averaging_s / interval)``. With `averaging_s` given, an estimate that comes
    `dt` after the last accepted one has the weight ``dt / averaging_s`` of an
    independent one: the bands then shrink with the time observed, not with the number
    of estimates.

    Part of an estimate's error is **systematic**: it belongs to the specimen and is the
    same in all frames, so averaging over time does not reduce it, and a change of γ is
    visible in spite of it. The filter runs on the fluctuating part and follows it
    closely; the bands include both parts. Gate and NIS are those of the fluctuating
    part; correlation makes the NIS smaller than P.

    Parameters
    ----------
    family
        The blurs.
    errors
        Error model of the estimates: which shares of the stated variance are systematic
        and fluctuating.
    diffusion
        Random walk of every coefficient per √s, in the family's unit. Larger values
        follow faster and smooth less. None for 2 % of the prior scale.
    averaging_s
        Seconds over which the identification averages; 0 for independent estimates.

    Raises
    ------
    ValueError
        An argument is out of range; the text names it.
    """

    def __init__(
        self,
        family: BlurFamily,
        errors: ErrorModel,
        *,
        diffusion: float | None = None,
        averaging_s: float = 0.0,
    ) -> None:
        if diffusion is not None and not diffusion > 0:
            raise ValueError(f"diffusion must be positive; got {diffusion}")
        if averaging_s < 0:
            raise ValueError(f"averaging_s must not be negative; got {averaging_s}")
        self._family = family
        self._errors = errors
        self._equivalents = orbit(family, ResolvedBy.NEVER)
        n = family.n_coefficients
        self._walk = (
            random_walk(family) if diffusion is None else np.eye(n) * diffusion**2
        )
        self._threshold = float(chdtri(n, 1 - _GATE))
        self._averaging_s = averaging_s
        self._filter: Gaussian | None = None
        self._systematic = np.zeros_like(self._walk)
        self._last: TrackState | None = None
        self._last_used = 0.0
        self._from_outside = self._provisional = False
        self._rejected: list[Gaussian] = []

    def predict(self, time: float) -> TrackState | None:
        """Return the track extrapolated to `time`; None before the first estimate.

        The tracker itself does not change. A time before the last one counts as no time
        passed.
        """
        predicted = self._predicted(time)
        if predicted is None or self._last is None:
            return None
        return replace(
            self._last,
            time=predicted.time,
            coefficients=predicted.coefficients,
            covariance=predicted.covariance + self._systematic,
        )

    def start_from(self, known: Gaussian) -> TrackState:
        """Restart from coefficients measured by other means; return the state.

        By a focus sweep, for example. The sign of the even modes follows them. They do
        not share the systematic error of estimates, so the first estimate counts with
        all of its stated covariance.
        """
        self._rejected.clear()
        self._systematic = np.zeros_like(self._walk)
        self._last_used = known.time - self._averaging_s
        self._from_outside, self._provisional = True, False
        return self._keep(known, np.nan)

    def update(
        self, time: float, estimate: Estimate, since: float = -np.inf
    ) -> TrackState | None:
        """Update the track with one estimate.

        Parameters
        ----------
        time
            Seconds since the session began, at any spacing; a time before the last one
            counts as no time passed.
        estimate
            Ignored unless ``estimate.trusted`` and its values are finite. The track of
            a provisional one, which counts as not accepted, ends with the next.
        since
            Start of the average that the estimate was made from. If it was restarted,
            for another blur, that blur is followed without waiting for the averaging
            time.

        Returns
        -------
        TrackState or None
            ``accepted`` says whether the estimate was used. None until the first
            trusted estimate.

        Raises
        ------
        ValueError
            The number of coefficients is not the family's.
        """
        stated = self._stated_covariance(estimate)
        predicted = self._predicted(time)
        if stated is None:
            return None if predicted is None else self._keep(predicted, np.nan)
        coefficients = np.asarray(estimate.coefficients, dtype=np.float64)
        floor = np.diag((self._errors.track_floor * self._family.prior.scale) ** 2)
        share = 1.0 if self._from_outside else self._errors.fluctuating
        measured = Gaussian(time, coefficients, share * stated + floor)
        if predicted is None or self._provisional:
            self._provisional = estimate.provisional
            return self._start(measured, stated)
        measured, symmetry, nis = self._align(measured, predicted)
        stated = symmetry.covariance(stated)
        if nis <= self._threshold:
            self._rejected.clear()
            self._from_outside = False
            # The systematic part changes with the specimen: slowly, except at a step.
            new = self._errors.systematic * stated
            self._systematic = self._systematic + _SYSTEMATIC_WEIGHT * (
                new - self._systematic
            )
            return self._filtered(predicted, measured, nis)
        return self._reject(predicted, measured, stated, nis, since)

    def _predicted(self, time: float) -> Gaussian | None:
        state = self._filter
        if state is None:
            return None
        now = max(time, state.time)
        covariance = state.covariance + self._walk * (now - state.time)
        return Gaussian(now, state.coefficients, covariance)

    def _stated_covariance(self, estimate: Estimate) -> NDArray[np.float64] | None:
        """Return the covariance (P, P), positive semidefinite; None if not trusted."""
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
        # A curvature is positive only near its minimum: clip negative eigenvalues.
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        whole: NDArray[np.float64] = (vectors * np.maximum(values, 0.0)) @ vectors.T
        return whole

    def _start(self, measured: Gaussian, stated: NDArray[np.float64]) -> TrackState:
        canonical = self._family.canonical(measured.coefficients)
        exact = Gaussian(measured.time, canonical, np.zeros_like(stated))
        start, symmetry, _ = self._align(measured, exact)
        self._systematic = self._errors.systematic * symmetry.covariance(stated)
        self._last_used = start.time
        used = None if self._provisional else start.coefficients
        return self._keep(start, np.nan, used)

    def _keep(
        self,
        state: Gaussian,
        nis: float,
        measured: NDArray[np.float64] | None = None,
        reacquired: bool = False,
    ) -> TrackState:
        """Set the state of the filter; return the state of the track."""
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
    ) -> tuple[Gaussian, Symmetry, float]:
        """Return the equivalent nearest `reference`, its symmetry and squared distance.

        The distance is Mahalanobis', with the covariances of both.
        """
        found: list[tuple[Gaussian, Symmetry, float]] = []
        for symmetry in self._equivalents:
            equivalent = measured.transformed(symmetry)
            innovation = equivalent.coefficients - reference.coefficients
            spread = reference.covariance + equivalent.covariance
            distance = float(innovation @ np.linalg.solve(spread, innovation))
            found.append((equivalent, symmetry, distance))
        return min(found, key=lambda item: item[2])

    def _filtered(
        self, predicted: Gaussian, measured: Gaussian, nis: float
    ) -> TrackState:
        noise = measured.covariance * self._inflation(predicted.time)
        gain = np.linalg.solve(predicted.covariance + noise, predicted.covariance).T
        kept = np.eye(len(gain)) - gain
        # Joseph's form stays symmetric and positive whatever the rounding.
        covariance = kept @ predicted.covariance @ kept.T + gain @ noise @ gain.T
        innovation = measured.coefficients - predicted.coefficients
        self._last_used = predicted.time
        filtered = Gaussian(
            predicted.time,
            predicted.coefficients + gain @ innovation,
            (covariance + covariance.T) / 2,
        )
        return self._keep(filtered, nis, measured.coefficients)

    def _reject(
        self,
        predicted: Gaussian,
        measured: Gaussian,
        stated: NDArray[np.float64],
        nis: float,
        since: float,
    ) -> TrackState:
        if self._rejected:
            last = self._rejected[-1]
            # Agreement is judged less strictly than the gate: otherwise an understated
            # fluctuation could keep the track where it is forever.
            wide = replace(last, covariance=last.covariance + stated)
            measured, symmetry, distance = self._align(measured, wide)
            stated = symmetry.covariance(stated)
            if distance > self._threshold:
                self._rejected.clear()
        self._rejected.append(measured)
        lasted = measured.time - self._rejected[0].time
        # An average that was started again does not contain frames before the step.
        mixed = not self._last_used < since <= self._rejected[0].time
        if len(self._rejected) < _REACQUIRE_AFTER or (
            mixed and lasted < self._averaging_s
        ):
            return self._keep(predicted, nis)
        _log.info(
            "the coefficients stepped at %.1f s, confirmed by %d consistent estimates",
            predicted.time,
            len(self._rejected),
        )
        self._rejected.clear()
        self._from_outside = False
        self._last_used = predicted.time
        self._systematic = self._errors.systematic * stated
        # The newest alone: earlier estimates still average over the step itself.
        newest = replace(measured, time=predicted.time)
        return self._keep(newest, nis, newest.coefficients, reacquired=True)

    def _inflation(self, now: float) -> float:
        since = now - self._last_used
        if since >= self._averaging_s:
            return 1.0
        return min(self._averaging_s / max(since, 1e-9), _MAX_INFLATION)
