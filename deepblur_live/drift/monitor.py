"""Has the wavefront moved from where the session began? Baseline, limits, alerts."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.drift.alert import Alert, make_alert
from deepblur_live.drift.status import DriftState, DriftStatus
from deepblur_live.drift.twins import nearest_twin, twin_signs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.drift.tracker import TrackState
    from deepblur_live.optics.family import BlurFamily
    from deepblur_live.profile import Drift

__all__ = ["DriftMonitor"]

_RANK = {DriftState.OK: 0, DriftState.WARN: 1, DriftState.ALARM: 2}


@dataclass(frozen=True)
class _Baseline:
    time: float
    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]


class DriftMonitor:
    """Watches the change of the wavefront from a baseline, and says when it matters.

    The baseline is the mean of the first ``settings.baseline_points`` accepted points.
    The change of a point is ``d = γ - baseline``, of the twin of γ that makes it least
    (so the track changing twins is no change), and its squared rms is debiased for
    the noise, which alone would make it positive::

        change² = |d|² - trace(Σ_track + Σ_baseline)

    averaged over the last `smoothing` points, and 0 where negative. ``Σ_baseline`` is
    the scatter of the baseline's points over n, times (1 + φ) / (1 - φ) for their
    measured lag-1 autocorrelation φ. Not seen, because no image shows it: a wavefront
    that moves exactly to its twin.

    Parameters
    ----------
    family
        Names, twins and rms of the coefficients.
    settings
        Limits in waves rms, and the number of baseline points.
    wavelength_nm
        Turns waves into nm.
    smoothing
        Points averaged; no alert before so many points since the baseline.
    release, hold
        Hysteresis: a level is left once `hold` points in a row had a change below
        `release` times its limit.

    Raises
    ------
    ValueError
        `smoothing`, `release` or `hold` is out of its range.
    """

    def __init__(
        self,
        family: BlurFamily,
        settings: Drift,
        *,
        wavelength_nm: float,
        smoothing: int = 5,
        release: float = 0.8,
        hold: int = 20,
    ) -> None:
        if smoothing < 1 or hold < 1 or not 0 < release <= 1:
            raise ValueError(
                "smoothing and hold must be 1 or more, and release in (0, 1]; "
                f"got {smoothing}, {hold} and {release}"
            )
        self._family = family
        self._settings = settings
        self._wavelength_nm = wavelength_nm
        self._release = release
        self._hold = hold
        self._held_back = 0
        self._signs = twin_signs(family)
        self._weights = np.asarray(
            family.wavefront_rms(np.eye(family.n_coefficients)) ** 2
        )
        self._lock = threading.Lock()
        self._points: list[NDArray[np.float64]] = []
        self._baseline: _Baseline | None = None
        self._squares: deque[float] = deque(maxlen=smoothing)
        self._differences: deque[NDArray[np.float64]] = deque(maxlen=smoothing)
        self._quiet_until = 0.0
        self._status = DriftStatus(DriftState.BASELINING, 0, settings.baseline_points)

    @property
    def status(self) -> DriftStatus:
        """Where the watch stands; a snapshot, free to read from any thread."""
        return self._status

    def update(self, track: TrackState) -> Alert | None:
        """Take one point of the track; return an alert when the level has risen.

        A point whose estimate was refused brings no evidence and changes nothing.
        """
        if not track.accepted or not np.isfinite(track.coefficients).all():
            return None
        with self._lock:
            baseline = self._baseline
            if baseline is None:
                self._extend_baseline(track)
                return None
            return self._compare(track, baseline)

    def acknowledge(self) -> None:
        """Take the standing warning or alarm as seen, until it rises or has cleared."""
        with self._lock:
            if _RANK.get(self._status.state, 0) > 0:
                self._status = replace(self._status, acknowledged=True)

    def rebaseline(self) -> None:
        """Forget the baseline and any alert; the next points make a new one."""
        with self._lock:
            self._points.clear()
            self._squares.clear()
            self._differences.clear()
            self._held_back = 0
            self._baseline = None
            self._status = DriftStatus(
                DriftState.BASELINING,
                0,
                self._settings.baseline_points,
                wavefront_rms=self._status.wavefront_rms,
            )

    def _extend_baseline(self, track: TrackState) -> None:
        if track.reacquired:
            # Points from both sides of a step would have their mean where the optics
            # never were.
            self._points.clear()
        reference = self._points[0] if self._points else track.coefficients
        self._points.append(
            nearest_twin(self._signs, track.coefficients, reference, self._weights)
        )
        self._status = replace(
            self._status,
            n_baseline=len(self._points),
            wavefront_rms=float(self._family.wavefront_rms(track.coefficients)),
        )
        if len(self._points) < self._settings.baseline_points:
            return
        points = np.array(self._points)
        mean = points.mean(axis=0)
        self._baseline = _Baseline(track.time, mean, _covariance_of_mean(points))
        self._quiet_until = track.time
        self._status = replace(self._status, state=DriftState.OK, baseline=mean)

    def _compare(self, track: TrackState, baseline: _Baseline) -> Alert | None:
        nearest = nearest_twin(
            self._signs, track.coefficients, baseline.coefficients, self._weights
        )
        difference = nearest - baseline.coefficients
        covariance = track.covariance + baseline.covariance
        weighted = self._weights * difference
        square = float(weighted @ difference)
        self._differences.append(difference)
        self._squares.append(square - float(self._weights @ np.diag(covariance)))
        change = math.sqrt(max(0.0, sum(self._squares) / len(self._squares)))
        variance = float(weighted @ covariance @ weighted) / max(square, 1e-12)
        sigma = math.sqrt(max(0.0, variance))
        if change < self._settings.warn_waves / 2:
            self._quiet_until = track.time
        before = self._status.state
        state = self._next_state(before, change)
        risen = _RANK[state] > _RANK[before]
        self._status = replace(
            self._status,
            state=state,
            change_waves=change,
            change_nm=change * self._wavelength_nm,
            change_sigma_waves=sigma,
            wavefront_rms=float(self._family.wavefront_rms(track.coefficients)),
            acknowledged=(
                self._status.acknowledged and not risen and state is not DriftState.OK
            ),
        )
        if not risen:
            return None
        return make_alert(
            time=track.time,
            level=state,
            change=change,
            sigma=sigma,
            difference=np.mean(self._differences, axis=0),
            weights=self._weights,
            names=self._family.names,
            wavelength_nm=self._wavelength_nm,
            since=self._quiet_until,
        )

    def _next_state(self, before: DriftState, change: float) -> DriftState:
        if len(self._squares) < (self._squares.maxlen or 1):
            return before
        reached = self._level(change, 1.0)
        if _RANK[reached] >= _RANK[before]:
            self._held_back = 0
            return reached
        kept = self._level(change, self._release)
        if _RANK[kept] >= _RANK[before]:
            self._held_back = 0
            return before
        self._held_back += 1
        if self._held_back < self._hold:
            return before
        self._held_back = 0
        return kept

    def _level(self, change: float, share: float) -> DriftState:
        if change >= share * self._settings.alarm_waves:
            return DriftState.ALARM
        if change >= share * self._settings.warn_waves:
            return DriftState.WARN
        return DriftState.OK


def _covariance_of_mean(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (P, P) covariance of the mean of (n, P) correlated points."""
    deviations = points - points.mean(axis=0)
    scatter = deviations.T @ deviations / (len(points) - 1)
    lagged = float(np.sum(deviations[1:] * deviations[:-1]))
    total = float(np.sum(deviations**2))
    # Above 0.9 the few points of a baseline cannot tell one φ from another.
    correlation = min(max(lagged / total, 0.0), 0.9) if total > 0 else 0.0
    inflation = (1 + correlation) / (1 - correlation)
    covariance: NDArray[np.float64] = scatter * inflation / len(points)
    return covariance
