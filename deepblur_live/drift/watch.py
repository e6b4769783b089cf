"""Estimates to batches, baseline and charts: all that begins anew with a specimen."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.drift.batches import Batch, Batcher, merge_pairs
from deepblur_live.drift.charts import Charts, Evidence
from deepblur_live.drift.scatter import lag_one

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.profile import Drift

__all__ = ["Baseline", "Watch"]

# Limits are widened for the autocorrelation of the points, up to this one, and for no
# less than the memory of a running average leaves in points of six times its length:
# twenty points tell it to ± 0.13 only.
_MAX_LAG_ONE = 0.35
_MIN_LAG_ONE = 0.15
# Batches are made longer up to so many times before the watch gives up arming.
_MAX_LENGTHENING = 8
# Estimates that differ by so much more than they state, squared, are of blurs that fit
# alike and hop between them. Those of an average state more than they differ by.
_MAX_NIS = 3.0
_MOST_NIS = 10_000
# So many points of the course are kept; then neighbours are merged, so that it reaches
# back to the baseline however long a session lasts.
_COURSE = 480


@dataclass(frozen=True)
class Baseline:
    """What changes are measured from.

    Parameters
    ----------
    time
        Of its last estimate, seconds since the session began.
    mean
        (P,) waves rms.
    count
        Batches it is the mean of.
    spacing, estimates
        Seconds from one batch to the next, and estimates in one, as most of them have.
    """

    time: float
    mean: NDArray[np.float64]
    count: int
    spacing: float
    estimates: float


class Watch:
    """Batches of estimates, charted from the first; the first of them the baseline.

    The charts count once they are armed, that is once there is a baseline: their points
    must not be too alike, nor the estimates less sure than an alarm is large, nor
    further apart than they state. While points are alike the batches are made longer,
    then given up on.

    Parameters
    ----------
    p
        Number of coefficients P.
    settings
        Length of a batch, number in a baseline, false alarms allowed.
    reason
        Why a baseline is made, when it is not the session's first.
    """

    def __init__(self, p: int, settings: Drift, reason: str = "") -> None:
        self._p, self._settings = p, settings
        self._batcher = Batcher(settings.batch_s)
        self._batches: list[Batch] = []
        self._evidence: Evidence | None = None
        self.charts = self._new_charts()
        self.course: list[Batch] = []
        self.baseline: Baseline | None = None
        self.lag_one = math.nan
        self.reason = reason
        self._nis: deque[tuple[float, float]] = deque(maxlen=_MOST_NIS)

    def _new_charts(self) -> Charts:
        points = self._settings.false_alarm_hours * 3600 / self._batcher.seconds
        return Charts(self._p, points)

    @property
    def batch_s(self) -> float:
        """Length of a batch, seconds."""
        return self._batcher.seconds

    @property
    def count(self) -> int:
        """Batches in the baseline so far."""
        return len(self._batches)

    @property
    def evidence(self) -> Evidence | None:
        """What the charts say; None before they are armed."""
        return None if self.baseline is None else self._evidence

    def notice(self, time: float, nis: float) -> None:
        """Take in how an estimate, used or not, differs from what was predicted."""
        if self.baseline is None and math.isfinite(nis):
            self._nis.append((time, nis))

    def add(
        self, time: float, point: NDArray[np.float64], stated: float = 0.0
    ) -> Batch | None:
        """Take an estimate (P,) in; return the batch that it ends, if any.

        `stated` is what is stated of its error, waves rms of the wavefront.
        """
        batch = self._batcher.add(time, point)
        if batch is None:
            return None
        self._chart(batch)
        if self.baseline is None:
            self._batches.append(batch)
            if len(self._batches) >= self._settings.baseline_points:
                self._try_to_arm(stated)
        return batch

    def _chart(self, batch: Batch) -> None:
        self.course.append(batch)
        if len(self.course) >= _COURSE:
            self.course = merge_pairs(self.course)
        self._evidence = self.charts.add(batch.begin, batch.mean)

    def _try_to_arm(self, stated: float) -> None:
        del self._batches[: -self._settings.baseline_points]
        points = np.array([batch.mean for batch in self._batches])
        self.lag_one = lag_one(points)
        if stated > self._settings.alarm_waves:
            # What such a specimen gets wrong moves, with noise and time, by as much.
            self.reason = (
                "not armed: of this specimen the wavefront is known to "
                f"± {stated:.2f} waves only"
            )
        elif self._mean_nis() > _MAX_NIS:
            self.reason = (
                "not armed: estimates of this specimen hop by more than they state"
            )
        elif self.lag_one <= _MAX_LAG_ONE:
            self.charts.allow_for(max(self.lag_one, _MIN_LAG_ONE))
            self.baseline = Baseline(
                self._batches[-1].end,
                points.mean(axis=0),
                len(points),
                float(np.median(np.diff([batch.begin for batch in self._batches]))),
                float(np.median([batch.count for batch in self._batches])),
            )
            self.reason = ""
        elif self.batch_s < _MAX_LENGTHENING * self._settings.batch_s:
            self._lengthen()
            self.reason = f"estimates stay alike: points of {self.batch_s:g} s"
        else:
            self.reason = (
                f"not armed: points of {self.batch_s:g} s are still alike "
                f"(autocorrelation {self.lag_one:.2f})"
            )

    def _mean_nis(self) -> float:
        """Return the mean, over the baseline's time, of NIS over its expectation."""
        begin = self._batches[0].begin
        while self._nis and self._nis[0][0] < begin:
            self._nis.popleft()
        if not self._nis:
            return 0.0
        return float(np.mean([nis for _, nis in self._nis])) / self._p

    def _lengthen(self) -> None:
        self._batches = merge_pairs(self._batches)
        self._batcher.lengthen()
        self.charts = self._new_charts()
        self.course.clear()
        for batch in self._batches:
            self._chart(batch)
