"""Do frames come, and are they deblurred? What the coefficients cannot tell."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from deepblur_live.acquisition.worker import WorkerState
from deepblur_live.drift import DriftState, clock_text
from deepblur_live.runtime.frame import FrameResult, FrameState

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.acquisition.statistics import Statistics

__all__ = ["Liveness"]

# A lone bad frame is no state; a few in a row are.
_RAW_RUN = 3
# Frames go on being deblurred with the last blur that was told, but not unsaid for
# longer than this and so many refusals.
_UNTOLD_S, _UNTOLD_RUN = 60.0, 3


class Liveness:
    """Tells a session without frames, or without deblurring, from a watched one.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    stale_after_s
        Silence past the exposure and twice the longest recent interval (a time-lapse
        is not stale between its points).
    """

    def __init__(self, clock: Callable[[], float], stale_after_s: float) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stale_after_s = stale_after_s
        self._heard_at: float | None = None
        self._intervals: deque[float] = deque(maxlen=5)
        self._captured = 0
        self._raw_run = 0
        self._reason = ""
        self._source = ""
        self._untold_run, self._untold_why = 0, ""
        self._told_time = 0.0
        self._frame_time = 0.0
        self._exposure_s = 0.0

    def result(self, result: FrameResult) -> None:
        """Take in that a result has come."""
        with self._lock:
            self._take(result, self._clock())

    def _take(self, result: FrameResult, now: float) -> None:
        if self._heard_at is not None:
            self._intervals.append(now - self._heard_at)
        self._heard_at = now
        raw = result.state is FrameState.RAW_ONLY
        self._raw_run = self._raw_run + 1 if raw else 0
        self._reason = result.reason
        self._source = result.frame.source or "the source"
        self._frame_time = result.frame.time
        if result.estimate is not None:
            if result.estimate.trusted:
                self._untold_run, self._told_time = 0, result.frame.time
            else:
                self._untold_run += 1
                self._untold_why = result.estimate.reason
        exposure = result.frame.metadata.get("exposure_ms", 0.0)
        self._exposure_s = exposure / 1000 if isinstance(exposure, int | float) else 0.0

    def override(self, statistics: Statistics) -> tuple[DriftState, str] | None:
        """Return STALE or RAW_ONLY with its reason, or None when all is well.

        STALE is a watch that learns nothing: no frame, or none whose blur is told.
        """
        with self._lock:
            return self._judge(statistics, self._clock())

    def _judge(
        self, statistics: Statistics, now: float
    ) -> tuple[DriftState, str] | None:
        if statistics.captured != self._captured:
            # Frames come, though their results may not.
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
        untold = self._frame_time - self._told_time
        if self._untold_run >= _UNTOLD_RUN and untold > _UNTOLD_S:
            since = clock_text(self._told_time)
            why = self._untold_why or "the estimates are not trusted"
            return DriftState.STALE, f"no blur identified since {since}: {why}"
        return None
