"""Distance of the blur from a state that is known beforehand, such as a calibration's.

No baseline is measured, so there is nothing in which the error that all estimates of a
specimen share would cancel: it counts in full (docs/decisions/0199).
"""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.diagnosis import ChangeShape
from deepblur_live.blur.symmetry import ResolvedBy, nearest, orbit
from deepblur_live.drift.alert import Alert, make_alert
from deepblur_live.drift.batches import Batcher
from deepblur_live.drift.level import AlertLevel, rank
from deepblur_live.drift.recent import RecentMean
from deepblur_live.drift.shape import ShapeFit
from deepblur_live.drift.size import change_size
from deepblur_live.drift.status import NO_LIMITS, DriftState, DriftStatus

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.estimate import ErrorModel
    from deepblur_live.blur.family import BlurFamily
    from deepblur_live.drift.track import TrackState
    from deepblur_live.profile import Drift

__all__ = ["ReferenceMonitor", "distance"]


def distance(
    family: BlurFamily,
    compared: NDArray[np.bool_],
    difference: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> tuple[float, float]:
    """Return the size of a difference and its standard deviation, debiased.

    Only the `compared` (P,) coefficients count. In the unit of the family's metric.

    Parameters
    ----------
    difference, covariance
        (P,) and (P, P), in the family's unit.
    """
    part = np.ix_(compared, compared)
    return change_size(
        difference[compared], covariance[part], family.metric.matrix[part]
    )


class ReferenceMonitor:
    """Monitors the distance of the blur from a known state, and raises alerts.

    It takes the place of a `DriftMonitor`, with the same methods; the status shows the
    distance as the change. A level is reached when the distance, averaged over
    ``settings.batch_s``, is above its limit and exceeds its stated error, systematic
    part included, by the factor that the error model calls significant.

    All methods may be called from any thread.

    Parameters
    ----------
    family
        The blurs.
    settings
        Limits in the metric's unit, length of a batch.
    errors
        Error model of the estimates.
    reference
        (P,) the known state.
    compared
        (P,) which coefficients count; the others depend on focus and specimen.
    name
        Name of the state in alerts.
    """

    def __init__(
        self,
        family: BlurFamily,
        settings: Drift,
        errors: ErrorModel,
        reference: NDArray[np.float64],
        compared: NDArray[np.bool_],
        name: str = "the calibration",
    ) -> None:
        self._family, self._settings = family, settings
        self._significance = errors.significance
        self._reference, self._compared, self._name = reference, compared, name
        self._equivalents = orbit(family, ResolvedBy.NEVER)
        self._level = AlertLevel(settings)
        self._lock = threading.Lock()
        self._time = self._since = 0.0
        self._status = self._begin()

    def _begin(self, reason: str = "") -> DriftStatus:
        self._batcher = Batcher(self._settings.batch_s)
        self._recent = RecentMean(self._settings.batch_s)
        self._covariance: NDArray[np.float64] | None = None
        self._began: float | None = None
        raised = rank(self._level.state) > 0
        return DriftStatus(
            self._level.state if raised else DriftState.BASELINING,
            0,
            1,
            self._family.metric.unit,
            baseline=self._reference,
            acknowledged=self._level.acknowledged,
            reason=reason or f"averaging the first point to compare with {self._name}",
        )

    @property
    def status(self) -> DriftStatus:
        """The present status, immutable."""
        return self._status

    def update(self, track: TrackState) -> Alert | None:
        """Update with the latest track; return an alert when a notification is due.

        A track whose estimate was rejected is no evidence and changes nothing.
        """
        point = track.coefficients if track.measured is None else track.measured
        with self._lock:
            self._time = track.time
            if not track.accepted or not np.isfinite(point).all():
                return None
            self._covariance = track.covariance
            metric = self._family.metric.matrix
            point = nearest(point, self._reference, self._equivalents, metric)
            if self._began is None:
                self._began = track.time
            self._recent.add(track.time, point)
            change, sigma = self._size()
            if change < self._settings.warn:
                self._since = track.time
            alert = None
            if self._batcher.add(track.time, point) is not None:
                evident = change >= self._significance * sigma
                due = self._level.step(track.time, change, evident)
                alert = self._alert() if due else None
                self._status = replace(self._status, n_baseline=1, reason="")
            self._refresh(change, sigma)
            return alert

    def _size(self) -> tuple[float, float]:
        assert self._covariance is not None
        difference = self._recent.mean - self._reference
        return distance(self._family, self._compared, difference, self._covariance)

    def _refresh(self, change: float, sigma: float) -> None:
        status = self._status
        until = status.snoozed_until
        if until is not None and self._time >= until:
            until = None
        state = self._level.state
        if status.n_baseline == 0 and rank(state) == 0:
            state = DriftState.BASELINING
        judged = status.n_baseline > 0
        self._status = replace(
            status,
            state=state,
            change=change,
            change_sigma=sigma,
            change_text=self._family.metric.show(change),
            acknowledged=self._level.acknowledged,
            snoozed_until=until,
            limits=self._level.limits if judged else NO_LIMITS,
        )

    def _alert(self) -> Alert:
        change, sigma = self._size()
        difference = (self._recent.mean - self._reference) * self._compared
        return make_alert(
            self._family,
            time=self._time,
            level=self._level.state,
            change=change,
            sigma=sigma,
            difference=difference,
            since=max(self._since, self._began or 0.0),
            fit=ShapeFit(ChangeShape.UNCLEAR),
            origin=self._name,
        )

    def acknowledge(self) -> None:
        """Acknowledge the present warning or alarm, until it rises or has cleared."""
        with self._lock:
            self._level.acknowledge()
            self._status = replace(self._status, acknowledged=self._level.acknowledged)

    def snooze(self, seconds: float) -> None:
        """Raise no alert for a time from the last point on; 0 ends a snooze.

        Raises
        ------
        ValueError
            `seconds` is negative or not finite.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"snooze for 0 seconds or more, not {seconds:g}")
        with self._lock:
            until = self._time + seconds
            self._level.snooze(until)
            self._status = replace(
                self._status, snoozed_until=until if seconds else None
            )

    def rebaseline(self) -> None:
        """Discard any alert and the points so far; the reference stays."""
        with self._lock:
            self._level.clear()
            self._restart()

    def specimen_changed(self, reason: str = "the specimen was changed") -> None:
        """Start a new average: estimates of two specimens have different errors."""
        with self._lock:
            self._restart(reason)

    def frames_changed(self, reason: str) -> None:
        """Start a new average for the same specimen in brighter or dimmer frames."""
        self.specimen_changed(reason)

    def light_changed(self, logarithm: float) -> None:
        """Do nothing: the systematic error counts in full, whatever the light."""

    def assess(self) -> Alert | None:
        """Return the present warning or alarm as it would be raised now, or None."""
        with self._lock:
            if rank(self._level.state) == 0 or self._covariance is None:
                return None
            return self._alert()

    def _restart(self, reason: str = "") -> None:
        before = self._status.snoozed_until
        self._status = replace(self._begin(reason), snoozed_until=before)
