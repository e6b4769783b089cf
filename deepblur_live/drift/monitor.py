"""Detect changes of the blur from a baseline, and raise alerts."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.symmetry import ResolvedBy, nearest, orbit
from deepblur_live.drift.alert import Alert, make_alert
from deepblur_live.drift.baseliner import Baseline, Baseliner
from deepblur_live.drift.level import AlertLevel, rank
from deepblur_live.drift.recent import RecentMean
from deepblur_live.drift.shape import fit_shape
from deepblur_live.drift.size import change_size, direction, scatter_size
from deepblur_live.drift.status import DriftState, DriftStatus

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.estimate import ErrorModel
    from deepblur_live.blur.family import BlurFamily
    from deepblur_live.drift.batches import Batch
    from deepblur_live.drift.track import TrackState
    from deepblur_live.profile import Drift

__all__ = ["DriftMonitor"]

# The change is averaged over enough batches that its noise is this share of the warning
# level, and over no more than the maximum.
_NOISE_SHARE = 1 / 3
_MAX_AVERAGED = 8
# The shape is fitted from at least this many batches before the change began.
_BATCHES_BEFORE = 10


class DriftMonitor:
    """Monitors the change of the blur from a baseline and raises alerts.

    Estimates are averaged in *batches* long enough to be nearly independent: their
    lag-1 autocorrelation is measured, and while it is too high the batches are
    lengthened, or the charts are not armed and the status says why. The *baseline* is
    the mean of the first ``settings.baseline_points`` batches. The estimates are
    charted, not the filtered track, whose errors are correlated (docs/decisions/0040).

    An alert requires both **evidence**: a control chart
    (:class:`~deepblur_live.drift.charts.Charts`) exceeds a limit with a specified rate
    of false signals; and **size**: the change, averaged over the latest batches, is
    above the warning or alarm level. With d = γ - baseline, for the equivalent γ
    nearest the baseline, and Σ the covariance of d from the scatter of the batches, the
    size is that of :func:`~deepblur_live.drift.size.change_size`.

    A change to coefficients with the same PSF cannot be detected.

    All methods may be called from any thread.

    Parameters
    ----------
    family
        The blurs: names, symmetries and metric of the coefficients.
    settings
        Limits in the metric's unit, lengths in seconds, false alarms allowed.
    errors
        Error model of the estimates.
    """

    def __init__(self, family: BlurFamily, settings: Drift, errors: ErrorModel) -> None:
        self._family = family
        self._settings = settings
        self._errors = errors
        self._equivalents = orbit(family, ResolvedBy.NEVER)
        self._metric = family.metric.matrix
        self._lock = threading.Lock()
        self._level = AlertLevel(settings)
        # Change at the time of the last baseline, still unrepaired.
        self._carried = np.zeros(family.n_coefficients)
        self._covariance = np.zeros_like(self._metric)
        self._jumped = False
        self._light_change = 0.0
        self._time = 0.0
        self._status = self._begin()

    def _begin(self, reason: str = "") -> DriftStatus:
        """Start a baseline; return the status."""
        self._baseliner = Baseliner(self._family, self._settings, self._errors, reason)
        self._recent = RecentMean()
        self._reference: NDArray[np.float64] | None = None
        self._quiet_until = 0.0
        return DriftStatus(
            DriftState.BASELINING,
            0,
            self._settings.baseline_points,
            self._family.metric.unit,
            reason=reason,
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
            # A snooze counts from here, whether or not the estimate was accepted.
            self._time = track.time
            self._baseliner.record_nis(track.time, track.nis)
            if not track.accepted or not np.isfinite(point).all():
                return None
            self._covariance = track.covariance
            if (
                track.reacquired
                and self._baseliner.baseline is None
                and not self._jumped
            ):
                self._jump(point)
            if self._reference is None:
                self._reference = point
            point = self._nearest(point)
            self._recent.add(track.time, point)
            stated = scatter_size(track.covariance, self._metric)
            batch = self._baseliner.add(track.time, point, stated)
            alert = None if batch is None else self._take(batch, track.time)
            self._refresh(track.time)
            return alert

    def _jump(self, point: NDArray[np.float64]) -> None:
        """Start the baseline again after a step within it.

        The mean of points on both sides of a step is a state that the optics never had.
        A second step within a baseline is attributed to the identification, jumping
        between competing solutions, which the scatter will show.
        """
        if self._carried.any() and self._reference is not None:
            # The step may be the repair of the change that was carried over.
            step = self._nearest(point) - self._recent.mean
            self._carried = self._carried + step
        self._restart("the blur has jumped")
        self._jumped = True

    def _nearest(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the equivalent of a point (P,) that is nearest the reference."""
        assert self._reference is not None
        return nearest(point, self._reference, self._equivalents, self._metric)

    def acknowledge(self) -> None:
        """Acknowledge the present warning or alarm, until it rises or has cleared."""
        with self._lock:
            self._level.acknowledge()
            self._status = replace(self._status, acknowledged=self._level.acknowledged)

    def snooze(self, seconds: float) -> None:
        """Raise no alert for a time from the last point on; 0 ends a snooze.

        The state is still updated, and a level that persists raises its alert
        afterwards.

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
        """Discard the baseline and any alert; the next points make a new baseline."""
        with self._lock:
            self._level.clear()
            self._carried = np.zeros_like(self._carried)
            self._jumped = False
            self._restart()

    def specimen_changed(self, reason: str = "the specimen was changed") -> None:
        """Start a new baseline for another position or specimen, with the same optics.

        Estimates of two specimens have different systematic errors and cannot be
        compared. A change with evidence is carried over: the new baseline is assumed to
        be that far from the old one.
        """
        with self._lock:
            evidence = self._baseliner.evidence
            self._carry_over(evidence is not None and evidence.signal)
            self._restart(reason)

    def frames_changed(self, reason: str) -> None:
        """Start a new baseline for the same specimen in brighter or dimmer frames.

        The systematic error changes with the noise, and the charts respond to that. A
        change is therefore carried over only if it is larger than the light can have
        caused; a smaller one is dropped.
        """
        with self._lock:
            if self._status.baseline is not None:
                self._carry_over(self._evident(*self._size()))
            self._restart(reason)

    def light_changed(self, logarithm: float) -> None:
        """Set the logarithm of the frames' light relative to that at the baseline.

        A change of the estimates that the light can have caused is no evidence.
        """
        with self._lock:
            if math.isfinite(logarithm):
                self._light_change = abs(logarithm)

    def assess(self) -> Alert | None:
        """Return the present warning or alarm as it would be raised now, or None.

        Minutes after an alert its shape over time shows the cause more clearly.
        """
        with self._lock:
            if rank(self._level.state) == 0 or self._status.baseline is None:
                return None
            return self._alert(self._time)

    def _carry_over(self, evident: bool) -> None:
        """Keep the change for the next baseline if there is evidence or an alert."""
        self._jumped = False
        if self._status.baseline is None:
            # What the last baseline carried over is still pending.
            return
        keep = evident or rank(self._level.state) > 0
        self._carried = self._difference() if keep else np.zeros_like(self._carried)

    def _restart(self, reason: str = "") -> None:
        before, status = self._status, self._begin(reason)
        # The absence of a baseline does not clear a warning or alarm.
        if rank(self._level.state) > 0:
            status = replace(status, state=self._level.state)
        # In one assignment: another thread may read it at any time.
        self._status = replace(
            status,
            acknowledged=self._level.acknowledged,
            snoozed_until=before.snoozed_until,
        )

    def _take(self, batch: Batch, now: float) -> Alert | None:
        baseliner = self._baseliner
        self._status = replace(
            self._status,
            n_baseline=baseliner.count,
            lag_one=baseliner.lag_one,
            reason=baseliner.reason,
        )
        if baseliner.baseline is None:
            return None
        if self._status.baseline is None:
            self._arm(baseliner.baseline)
        change, sigma = self._size()
        if change < self._settings.warn / 2:
            self._quiet_until = batch.end
        # `now` is the first estimate of the next batch: it completed this one.
        due = self._level.step(now, change, self._evident(change, sigma))
        return self._alert(now) if due else None

    def _arm(self, baseline: Baseline) -> None:
        mean = baseline.mean - self._carried
        self._reference = mean
        self._jumped = False
        self._quiet_until = baseline.time
        scatter = self._baseliner.charts.scatter.covariance
        noise = float(np.sum(self._metric * scatter))
        wanted = (_NOISE_SHARE * self._settings.warn) ** 2
        averaged = min(max(math.ceil(noise / wanted), 1), _MAX_AVERAGED)
        self._recent.seconds = averaged * baseline.spacing
        self._status = replace(self._status, baseline=mean, begin=baseline.begin)

    def _difference(self) -> NDArray[np.float64]:
        assert self._status.baseline is not None
        difference: NDArray[np.float64] = self._recent.mean - self._status.baseline
        return difference

    def _size(self) -> tuple[float, float]:
        """Return the size of the change and its standard deviation."""
        baseline = self._baseliner.baseline
        assert baseline is not None
        batches = max(self._recent.count / baseline.estimates, 0.1)
        share = 1 / batches + 1 / baseline.count
        covariance = self._baseliner.charts.scatter.covariance * share
        return change_size(self._difference(), covariance, self._metric)

    def _evident(self, change: float, sigma: float) -> bool:
        """Return whether the charts signal and the change is significant."""
        evidence = self._baseliner.evidence
        stated = scatter_size(self._covariance, self._metric)
        creep = self._errors.light_creep * self._light_change * stated
        # See docs/decisions/0041.
        least = self._errors.significance * math.hypot(sigma, creep)
        significant = change >= least
        # The evidence for what was carried over precedes this baseline.
        if self._family.metric.size(self._carried) >= self._settings.warn:
            return True
        return evidence is not None and evidence.signal and significant

    def _alert(self, time: float) -> Alert:
        """Return the alert of the present level."""
        baseline, armed = self._status.baseline, self._baseliner.baseline
        assert baseline is not None and armed is not None
        change, sigma = self._size()
        difference = self._difference()
        along = direction(difference, self._metric)
        # Systematic errors cancel where nothing has changed, but differ at another γ.
        systematic = math.sqrt(max(0.0, float(along @ self._covariance @ along)))
        since = self._since()
        # As long a time before a change as it has lasted shows when it began.
        lasted = max(time - since, _BATCHES_BEFORE * armed.spacing)
        batches = [b for b in self._baseliner.history if b.begin >= since - lasted]
        noise = along @ self._baseliner.charts.scatter.covariance @ along
        return make_alert(
            self._family,
            time=time,
            level=self._level.state,
            change=change,
            sigma=math.hypot(sigma, systematic),
            difference=difference,
            since=since,
            fit=fit_shape(
                np.array([b.begin for b in batches]),
                np.array([(b.mean - baseline) @ along for b in batches]),
                math.sqrt(float(noise)),
            ),
        )

    def _since(self) -> float:
        """Return when the change began, by the charts or by its size."""
        evidence = self._baseliner.evidence
        if evidence is not None and evidence.cusum >= 1:
            return min(evidence.since, self._quiet_until)
        return self._quiet_until

    def _refresh(self, now: float) -> None:
        """Update the status to the last point."""
        status = self._status
        until = status.snoozed_until
        if until is not None and now >= until:
            status = replace(status, snoozed_until=None)
        state = self._level.state
        if status.baseline is not None:
            change, sigma = self._size()
            evidence = self._baseliner.evidence
            assert evidence is not None
            status = replace(
                status,
                change=change,
                change_sigma=sigma,
                change_text=self._family.metric.show(change),
                evidence=max(evidence.cusum, evidence.mewma),
                limits=self._level.limits,
            )
        elif rank(state) == 0:
            state = DriftState.BASELINING
        self._status = replace(
            status, state=state, acknowledged=self._level.acknowledged
        )
