"""When results arrive: duration of the session, and whether frames stop or stay raw."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from deepblur_live.acquisition.worker import WorkerState
from deepblur_live.drift import DriftState, clock_text
from deepblur_live.runtime.frame import FrameResult, FrameState
from deepblur_live.runtime.series_key import SeriesKey, series_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.acquisition.statistics import Statistics

__all__ = ["Liveness"]

# A single raw frame does not change the state; this many in a row do.
_RAW_RUN = 3
# While no estimate is trusted, frames are deblurred with the last identified blur.
# After this long, and this many refused estimates, the session is STALE.
_UNIDENTIFIED_S, _UNIDENTIFIED_RUN = 60.0, 3


class Liveness:
    """Finds the states STALE and RAW_ONLY, which coefficients alone do not show.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    stale_after_s
        Longest silence, beyond the exposure and twice the longest recent interval of a
        series (a time lapse is not stale between its points).

    Attributes
    ----------
    time
        Capture of the latest frame, seconds since the session began.
    """

    def __init__(self, clock: Callable[[], float], stale_after_s: float) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stale_after_s = stale_after_s
        self._first_time: float | None = None
        self.time = 0.0
        self._heard_at: float | None = None
        self._heard_of: dict[SeriesKey, float] = {}
        self._intervals: deque[float] = deque(maxlen=5)
        self._captured = 0
        self._raw_run = 0
        self._reason = ""
        self._source = ""
        self._unidentified_run, self._unidentified_reason = 0, ""
        self._identified_time = 0.0
        self._frame_time = 0.0
        self._exposure_s = 0.0

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the last, by the frames' own times."""
        return 0.0 if self._first_time is None else self.time - self._first_time

    def result(self, result: FrameResult) -> None:
        """Count a result."""
        with self._lock:
            self._update(result, self._clock())

    def _update(self, result: FrameResult, now: float) -> None:
        time = result.frame.time
        if self._first_time is None:
            self._first_time = time
        self.time = max(self.time, time)
        # Frames of an MDA come in bursts; only within each series are they regular.
        key = series_key(result.info.metadata)
        if (before := self._heard_of.get(key, self._heard_at)) is not None:
            self._intervals.append(now - before)
        self._heard_at = self._heard_of[key] = now
        raw = result.state is FrameState.RAW_ONLY
        self._raw_run = self._raw_run + 1 if raw else 0
        self._reason = result.reason
        self._source = result.frame.source or "the source"
        self._frame_time = time
        if result.estimate is not None:
            if result.estimate.trusted:
                self._unidentified_run, self._identified_time = 0, time
            else:
                self._unidentified_run += 1
                self._unidentified_reason = result.estimate.reason
        exposure = result.frame.metadata.get("exposure_ms", 0.0)
        self._exposure_s = exposure / 1000 if isinstance(exposure, int | float) else 0.0

    def override(self, statistics: Statistics) -> tuple[DriftState, str] | None:
        """Return STALE or RAW_ONLY with its reason; None when all is well.

        STALE: no frame arrives, or no blur has been identified for a while.
        """
        with self._lock:
            return self._override(statistics, self._clock())

    def _override(
        self, statistics: Statistics, now: float
    ) -> tuple[DriftState, str] | None:
        if statistics.captured != self._captured:
            # Frames arrive, even if their results do not.
            self._captured = statistics.captured
            if self._heard_at is not None:
                self._heard_at = now
        if self._heard_at is not None:
            usual = max(self._intervals, default=0.0)
            allowed = self._stale_after_s + self._exposure_s + 2 * usual
            if now - self._heard_at > allowed:
                since = clock_text(self._frame_time)
                return DriftState.STALE, f"no frame from {self._source} since {since}"
        if statistics.worker_state is WorkerState.RAW_ONLY:
            return DriftState.RAW_ONLY, "the deblurring process is down"
        if self._raw_run >= _RAW_RUN:
            return DriftState.RAW_ONLY, f"frames are passed on raw: {self._reason}"
        silence = self._frame_time - self._identified_time
        if self._unidentified_run >= _UNIDENTIFIED_RUN and silence > _UNIDENTIFIED_S:
            since = clock_text(self._identified_time)
            why = self._unidentified_reason or "the estimates are not trusted"
            return DriftState.STALE, f"no blur identified since {since}: {why}"
        return None
