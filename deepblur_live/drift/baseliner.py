"""Baseline and control charts of one specimen, from batches of estimates."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.charted import charted
from deepblur_live.drift.batches import Batch, Batcher, merge_pairs
from deepblur_live.drift.charts import Charts, Evidence
from deepblur_live.drift.scatter import lag_one

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.estimate import ErrorModel
    from deepblur_live.blur.family import BlurFamily
    from deepblur_live.profile import Drift

__all__ = ["Baseline", "Baseliner"]

# Scatter below this share of the prior scale counts as rounding: 0.2 milliwaves for
# Zernike modes.
_RESOLUTION = 1 / 750
# The limits are widened for the measured autocorrelation of the points, up to the
# maximum. The minimum is what a running average leaves in batches of six times its
# memory: from twenty points it is known to ± 0.13 only.
_MAX_LAG_ONE = 0.35
_MIN_LAG_ONE = 0.15
# Batches are lengthened up to this factor before arming is given up.
_MAX_LENGTHENING = 8
_MAX_NIS_KEPT = 10_000
# Beyond this number of batches neighbours are merged, so that the history reaches back
# to the baseline however long a session lasts.
_MAX_HISTORY = 480


@dataclass(frozen=True)
class Baseline:
    """The state from which changes are measured.

    Parameters
    ----------
    begin, time
        Times of its first and last estimate, seconds since the session began.
    mean
        (P,) coefficients.
    count
        Number of batches averaged.
    spacing, estimates
        Median interval between batches in seconds, and median number of estimates in
        one.
    """

    begin: float
    time: float
    mean: NDArray[np.float64]
    count: int
    spacing: float
    estimates: float


class Baseliner:
    """Averages estimates in batches, charts them, and makes the first the baseline.

    The charts are armed once there is a baseline. That requires batches that are not
    too strongly correlated, estimates whose stated uncertainty is below the alarm
    level, and whose scatter agrees with it. While batches are correlated they are
    lengthened, up to a limit.

    Parameters
    ----------
    family
        The blurs.
    settings
        Length of a batch, number in a baseline, false alarms allowed.
    errors
        Error model; it limits the scatter of estimates with which a baseline is
        measured: beyond it they jump between competing solutions
        (docs/decisions/0043).
    reason
        Why a baseline is measured, if it is not the session's first.
    """

    def __init__(
        self,
        family: BlurFamily,
        settings: Drift,
        errors: ErrorModel,
        reason: str = "",
    ) -> None:
        self._metric, self._settings = family.metric, settings
        self._largest_nis = errors.largest_nis
        self._resolution = _RESOLUTION * family.prior.scale
        self._charted = charted(family)
        self._batcher = Batcher(settings.batch_s)
        self._batches: list[Batch] = []
        self._evidence: Evidence | None = None
        self.charts = self._new_charts()
        self.history: list[Batch] = []
        self.baseline: Baseline | None = None
        self.lag_one = math.nan
        self.reason = reason
        self._nis: deque[tuple[float, float]] = deque(maxlen=_MAX_NIS_KEPT)

    def _new_charts(self) -> Charts:
        points = self._settings.false_alarm_hours * 3600 / self._batcher.seconds
        return Charts(self._resolution, points, self._charted)

    @property
    def count(self) -> int:
        """Number of batches in the baseline so far."""
        return len(self._batches)

    @property
    def evidence(self) -> Evidence | None:
        """State of the charts; None before they are armed."""
        return None if self.baseline is None else self._evidence

    def record_nis(self, time: float, nis: float) -> None:
        """Record the normalised innovation of an estimate, accepted or not."""
        if self.baseline is None and math.isfinite(nis):
            self._nis.append((time, nis))

    def add(
        self, time: float, point: NDArray[np.float64], stated: float = 0.0
    ) -> Batch | None:
        """Add an estimate (P,); return the batch that is complete with it, if any.

        `stated` is the uncertainty of the estimate, in the metric's unit.
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
        self.history.append(batch)
        if len(self.history) >= _MAX_HISTORY:
            self.history = merge_pairs(self.history)
        self._evidence = self.charts.add(batch.begin, batch.mean)

    def _try_to_arm(self, stated: float) -> None:
        del self._batches[: -self._settings.baseline_points]
        points = np.array([batch.mean for batch in self._batches])
        few = slice(self._charted)
        self.lag_one = lag_one(points[:, few], self._resolution[few])
        length = self._batcher.seconds
        if stated > self._settings.alarm:
            # The systematic error of such estimates varies, with noise and time, by
            # this much.
            self.reason = (
                "not armed: for this specimen the blur is known only to "
                f"± {self._metric.show(stated)}"
            )
        elif self._mean_nis() > self._largest_nis:
            self.reason = (
                "not armed: the estimates scatter by more than their stated uncertainty"
            )
        elif self.lag_one <= _MAX_LAG_ONE:
            self.charts.allow_for(max(self.lag_one, _MIN_LAG_ONE))
            self.baseline = Baseline(
                self._batches[0].begin,
                self._batches[-1].end,
                points.mean(axis=0),
                len(points),
                float(np.median(np.diff([batch.begin for batch in self._batches]))),
                float(np.median([batch.count for batch in self._batches])),
            )
            self.reason = ""
        elif length < _MAX_LENGTHENING * self._settings.batch_s:
            self._lengthen()
            self.reason = (
                "successive points are correlated: averaging over "
                f"{self._batcher.seconds:g} s"
            )
        else:
            self.reason = (
                f"not armed: averages over {length:g} s are still correlated "
                f"(autocorrelation {self.lag_one:.2f})"
            )

    def _mean_nis(self) -> float:
        """Return the mean NIS since the first batch, relative to its expectation."""
        begin = self._batches[0].begin
        while self._nis and self._nis[0][0] < begin:
            self._nis.popleft()
        if not self._nis:
            return 0.0
        p = len(self._resolution)
        return float(np.mean([nis for _, nis in self._nis])) / p

    def _lengthen(self) -> None:
        self._batches = merge_pairs(self._batches)
        self._batcher.lengthen()
        self.charts = self._new_charts()
        self.history.clear()
        for batch in self._batches:
            self._chart(batch)
