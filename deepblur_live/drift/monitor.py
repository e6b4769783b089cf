"""Has the wavefront moved from where the session began? Baseline, charts, alerts."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.drift.alert import Alert, make_alert
from deepblur_live.drift.level import AlertLevel, rank
from deepblur_live.drift.recent import RecentMean
from deepblur_live.drift.shape import change_shape
from deepblur_live.drift.size import change_size, direction
from deepblur_live.drift.status import DriftState, DriftStatus
from deepblur_live.drift.twins import nearest_twin, twin_signs
from deepblur_live.drift.watch import Baseline, Watch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.drift.batches import Batch
    from deepblur_live.drift.tracker import TrackState
    from deepblur_live.optics.family import BlurFamily
    from deepblur_live.profile import Drift

__all__ = ["DriftMonitor"]

# The change is a mean over as many batches as make its noise this share of the warning.
_KNOWN_TO = 1 / 3
# It counts when it is so many times its noise: an excursion of estimates that hop now
# and then is not. Of simulated sessions on validation pictures the false alarm was of
# 2.9 times, true ones of 9.6 times and more.
_SURE = 4.0
_MAX_WINDOW = 8
# What estimates of one specimen get wrong alike creeps, while the light's logarithm
# changes by one, by this share of what they state (tracked, in the mean of before and
# after): rms over validation pictures.
_CREEP = 0.50
# The course of a change is looked at from at least so many batches before it began.
_BEFORE = 10


class DriftMonitor:
    """Watches the change of the wavefront from a baseline, and says when it matters.

    Estimates are averaged into *batches* long enough to be nearly independent: their
    lag-1 autocorrelation is measured, and while it is too high the batches are made
    longer, or the charts are not armed and the status says so. The *baseline* is the
    mean of the first ``settings.baseline_points`` batches.

    A level is raised when two things are true. **Evidence**: a control chart
    (:class:`~deepblur_live.drift.charts.Charts`) is beyond a limit with a stated rate
    of false signals. **Size**: the change, over as many of the last batches as it takes
    to know it, is above the warning or the alarm. With d = γ - baseline, in the twin
    that makes it least, and Σ the scatter of batches as measured, over their numbers,
    its size is that of :func:`~deepblur_live.drift.size.change_size`.

    Not seen, because no image shows it: a wavefront that moves exactly to its twin.

    Parameters
    ----------
    family
        Names, twins and rms of the coefficients.
    settings
        Limits in waves rms, lengths in seconds, false alarms allowed.
    wavelength_nm
        Turns waves into nm.
    """

    def __init__(
        self, family: BlurFamily, settings: Drift, *, wavelength_nm: float
    ) -> None:
        self._family = family
        self._settings = settings
        self._wavelength_nm = wavelength_nm
        self._signs = twin_signs(family)
        self._weights = np.asarray(
            family.wavefront_rms(np.eye(family.n_coefficients)) ** 2
        )
        self._lock = threading.Lock()
        self._level = AlertLevel(settings)
        self._carried = np.zeros(family.n_coefficients)
        self._stated = np.zeros((family.n_coefficients, family.n_coefficients))
        self._jumped = False
        self._dimmed = 0.0
        self._time = 0.0
        self._status = self._begin()

    def _begin(self, reason: str = "") -> DriftStatus:
        """Start a baseline; return where that stands."""
        self._watch = Watch(self._family.n_coefficients, self._settings, reason)
        self._recent = RecentMean()
        self._reference: NDArray[np.float64] | None = None
        self._quiet_until = 0.0
        return DriftStatus(
            DriftState.BASELINING, 0, self._settings.baseline_points, reason=reason
        )

    @property
    def status(self) -> DriftStatus:
        """Where the watch stands; a snapshot, free to read from any thread."""
        return self._status

    def update(self, track: TrackState) -> Alert | None:
        """Take one point of the track; return an alert when one is to be told.

        A point whose estimate was refused brings no evidence and changes nothing.
        """
        point = track.coefficients if track.measured is None else track.measured
        with self._lock:
            # A snooze counts from here, whatever becomes of the point.
            self._time = track.time
            self._watch.notice(track.time, track.nis)
        if not track.accepted or not np.isfinite(point).all():
            return None
        with self._lock:
            self._stated = track.covariance
            if track.reacquired and self._watch.baseline is None and not self._jumped:
                # Points from both sides of a step would have their mean where the
                # optics never were. A second jump in one baseline is not the optics':
                # an identification that hops to and fro, which the scatter will show.
                if self._carried.any() and self._reference is not None:
                    # It may be the end of what was carried on.
                    here = self._nearest(point)
                    self._carried = self._carried + here - self._recent.mean
                self._restart("the wavefront has jumped")
                self._jumped = True
            if self._reference is None:
                self._reference = point
            point = self._nearest(point)
            self._recent.add(track.time, point)
            stated = math.sqrt(float(self._weights @ np.diag(track.covariance)))
            batch = self._watch.add(track.time, point, stated)
            alert = None if batch is None else self._take(batch, track.time)
            self._refresh(track)
            return alert

    def _nearest(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the twin of a point (P,) that is nearest to what it is compared to."""
        assert self._reference is not None
        return nearest_twin(self._signs, point, self._reference, self._weights)

    def acknowledge(self) -> None:
        """Take the standing warning or alarm as seen, until it rises or has cleared."""
        with self._lock:
            self._level.acknowledge()
            self._status = replace(self._status, acknowledged=self._level.acknowledged)

    def snooze(self, seconds: float) -> None:
        """Tell no alert for so long, from the last point on; 0 ends a snooze.

        The state is shown all the same, and what still stands afterwards is told then.

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
        """Forget the baseline and any alert; the next points make a new one."""
        with self._lock:
            self._level.clear()
            self._carried = np.zeros_like(self._carried)
            self._jumped = False
            self._restart()

    def specimen_changed(self, reason: str = "the specimen was changed") -> None:
        """Start a new baseline for a new place or specimen, under the same optics.

        What every estimate of one specimen gets wrong alike differs from the next
        one's, so the two cannot be compared. A change that there was evidence of is
        carried on: the new baseline is taken to lie so far from the old one.
        """
        with self._lock:
            evidence = self._watch.evidence
            self._carry_on(evidence is not None and evidence.signal)
            self._restart(reason)

    def frames_changed(self, reason: str) -> None:
        """Start a new baseline for the same specimen in brighter or dimmer frames.

        What estimates get wrong creeps along with the noise, and the charts see that.
        So a change is carried on only if it is more than the light may have made. What
        is smaller is forgotten.
        """
        with self._lock:
            if self._status.baseline is not None:
                change, sigma, _ = self._size()
                self._carry_on(self._evident(change, sigma))
            self._restart(reason)

    def _carry_on(self, evident: bool) -> None:
        """Take a change along to the next baseline, if there is evidence or a level."""
        self._jumped = False
        if self._status.baseline is None:
            # What the last one took along is still on its way.
            return
        stands = evident or rank(self._level.state) > 0
        self._carried = self._difference() if stands else np.zeros_like(self._carried)

    def light_changed(self, logarithm: float) -> None:
        """Be told the logarithm of the frames' light over that at the baseline.

        What it may have made of the estimates is no evidence of a change.
        """
        with self._lock:
            if math.isfinite(logarithm):
                self._dimmed = abs(logarithm)

    def _restart(self, reason: str = "") -> None:
        before, status = self._status, self._begin(reason)
        # A level that stands is not cleared by there being no baseline for a while.
        if rank(self._level.state) > 0:
            status = replace(status, state=self._level.state)
        # At once: another thread may read it, and announce what it reads.
        self._status = replace(
            status,
            acknowledged=self._level.acknowledged,
            wavefront_rms=before.wavefront_rms,
            snoozed_until=before.snoozed_until,
        )

    def _take(self, batch: Batch, now: float) -> Alert | None:
        watch = self._watch
        self._status = replace(
            self._status,
            n_baseline=watch.count,
            lag_one=watch.lag_one,
            reason=watch.reason,
        )
        if watch.baseline is None:
            return None
        if self._status.baseline is None:
            self._arm(watch.baseline)
        return self._judge(batch, now)

    def _arm(self, baseline: Baseline) -> None:
        mean = baseline.mean - self._carried
        self._reference = mean
        self._jumped = False
        self._quiet_until = baseline.time
        noise = float(self._weights @ np.diag(self._watch.charts.scatter.covariance))
        wanted = (_KNOWN_TO * self._settings.warn_waves) ** 2
        window = min(max(math.ceil(noise / wanted), 1), _MAX_WINDOW)
        self._recent.seconds = window * baseline.spacing
        self._status = replace(self._status, baseline=mean)

    def _difference(self) -> NDArray[np.float64]:
        assert self._status.baseline is not None
        difference: NDArray[np.float64] = self._recent.mean - self._status.baseline
        return difference

    def _size(self) -> tuple[float, float, NDArray[np.float64]]:
        """Return the change, its standard deviation, and the difference itself."""
        watch = self._watch
        assert watch.baseline is not None
        difference = self._difference()
        batches = max(self._recent.count / watch.baseline.estimates, 0.1)
        share = 1 / batches + 1 / watch.baseline.count
        covariance = watch.charts.scatter.covariance * share
        change, sigma = change_size(difference, covariance, self._weights)
        return change, sigma, difference

    def _judge(self, batch: Batch, now: float) -> Alert | None:
        change, sigma, _ = self._size()
        if change < self._settings.warn_waves / 2:
            self._quiet_until = batch.end
        # A batch is known to have ended when the next one's first point has come.
        if not self._level.step(now, change, self._evident(change, sigma)):
            return None
        return self._told(now)

    def _evident(self, change: float, sigma: float) -> bool:
        """Return whether there is evidence of a change: the charts', and its size."""
        evidence = self._watch.evidence
        stated = math.sqrt(float(self._weights @ np.diag(self._stated)))
        sure = change >= _SURE * math.hypot(sigma, _CREEP * self._dimmed * stated)
        # What was carried over had its evidence at the place before.
        carried = math.sqrt(float(self._weights @ self._carried**2))
        known = carried >= self._settings.warn_waves
        return known or (evidence is not None and evidence.signal and sure)

    def assess(self) -> Alert | None:
        """Return the standing warning or alarm as it is now; None if there is none.

        Minutes after an alert its course shows better what has caused it.
        """
        with self._lock:
            if rank(self._level.state) == 0 or self._status.baseline is None:
                return None
            return self._told(self._time)

    def _told(self, time: float) -> Alert:
        """Return the standing level in words."""
        baseline = self._status.baseline
        assert baseline is not None
        change, sigma, difference = self._size()
        along = direction(difference, self._weights)
        # What estimates get wrong alike cancels where nothing has changed, but is
        # another at another γ.
        alike = math.sqrt(max(0.0, float(along @ self._stated @ along)))
        since = self._since()
        # As much rest before a change as it has lasted shows where it began.
        assert self._watch.baseline is not None
        lasted = max(time - since, _BEFORE * self._watch.baseline.spacing)
        course = [b for b in self._watch.course if b.begin >= since - lasted]
        noise = along @ self._watch.charts.scatter.covariance @ along
        return make_alert(
            time=time,
            level=self._level.state,
            change=change,
            sigma=math.hypot(sigma, alike),
            difference=difference,
            weights=self._weights,
            names=self._family.names,
            wavelength_nm=self._wavelength_nm,
            since=since,
            fit=change_shape(
                np.array([b.begin for b in course]),
                np.array([(b.mean - baseline) @ along for b in course]),
                math.sqrt(float(noise)),
            ),
        )

    def _since(self) -> float:
        """Return when the change began, by the chart or by its size."""
        evidence = self._watch.evidence
        if evidence is not None and evidence.cusum >= 1:
            return min(evidence.since, self._quiet_until)
        return self._quiet_until

    def _refresh(self, track: TrackState) -> None:
        """Bring the status up to the last point."""
        rms = float(self._family.wavefront_rms(track.coefficients))
        status = replace(self._status, wavefront_rms=rms)
        until = status.snoozed_until
        if until is not None and track.time >= until:
            status = replace(status, snoozed_until=None)
        state = self._level.state
        if status.baseline is not None:
            change, sigma, _ = self._size()
            evidence = self._watch.evidence
            assert evidence is not None
            status = replace(
                status,
                change_waves=change,
                change_nm=change * self._wavelength_nm,
                change_sigma_waves=sigma,
                evidence=max(evidence.cusum, evidence.mewma),
            )
        elif rank(state) == 0:
            state = DriftState.BASELINING
        self._status = replace(
            status, state=state, acknowledged=self._level.acknowledged
        )
