"""Counts, rates and latencies of a listener at one moment."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.acquisition.missed import Missed
from deepblur_live.acquisition.worker import WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deepblur_live.acquisition.ring import FrameRing

__all__ = ["Meter", "Statistics"]

_WINDOW = 256
"""Number of frames over which rates and latencies are measured."""
_MEMORY_S = 10.0
"""Rates ignore older frames: there may have been a pause or another exposure."""
_SILENCE_S = 1.0
_MAX_REASONS = 32
"""A reason that contains a number must not add an entry for every frame."""


@dataclass(frozen=True)
class Statistics:
    """A listener at one moment.

    Parameters
    ----------
    captured, processed, dropped, in_flight
        Frames; ``captured == processed + dropped + in_flight`` always. Processed are
        all with a result, raw-only ones included.
    waiting
        Frames in flight that wait before the ring, where every frame is processed.
    missed
        Live frames that never reached the listener, by reason. They are not part of
        `captured`.
    raw_only
        Frames passed on raw, by reason.
    fps_captured, fps_processed
        Frames per second, over the last 10 s and at most 256 frames.
    worked_s
        Seconds from the first capture to the last result; 0 before.
    latency_p50_ms, latency_p95_ms
        From the capture to the result in this process; 0 before the first.
    worker_state
        Whether frames are deblurred now.
    """

    captured: int = 0
    processed: int = 0
    dropped: int = 0
    in_flight: int = 0
    waiting: int = 0
    missed: Missed = field(default_factory=Missed)
    raw_only: Mapping[str, int] = field(default_factory=dict)
    fps_captured: float = 0.0
    fps_processed: float = 0.0
    worked_s: float = 0.0
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    worker_state: WorkerState = WorkerState.STOPPED


class Meter:
    """Measures rates, latencies and reasons; fed by several threads.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._captures: deque[float] = deque(maxlen=_WINDOW)
        self._results: deque[float] = deque(maxlen=_WINDOW)
        self._latencies: deque[float] = deque(maxlen=_WINDOW)
        self._raw_only: Counter[str] = Counter()
        self._missed = Missed()
        self._first_capture = self._last_result = math.nan

    def captured(self) -> None:
        """Note a frame captured now."""
        now = self._clock()
        with self._lock:
            self._captures.append(now)
            if math.isnan(self._first_capture):
                self._first_capture = now

    def delivered(self, latency_ms: float, raw_reason: str | None) -> None:
        """Note a result delivered now; `raw_reason` is None for a deblurred frame."""
        now = self._clock()
        with self._lock:
            self._results.append(now)
            self._last_result = now
            self._latencies.append(latency_ms)
            if raw_reason is not None:
                known = raw_reason in self._raw_only
                full = len(self._raw_only) >= _MAX_REASONS
                self._raw_only[raw_reason if known or not full else "other"] += 1

    def missed(self, missed: Missed) -> None:
        """Note live frames that never reached the listener."""
        with self._lock:
            self._missed += missed

    def statistics(
        self,
        ring: FrameRing,
        worker_state: WorkerState,
        waiting: int = 0,
        lost: int = 0,
    ) -> Statistics:
        """Return everything at this moment, with the ring's counts.

        Parameters
        ----------
        ring, worker_state
            The listener's ring and the state of its worker.
        waiting, lost
            Frames that wait before the ring, and those that were dropped there. They
            are counted before this is called: a frame that enters the ring in between
            is counted twice, in `in_flight` and in `captured`.
        """
        now = self._clock()
        with self._lock:
            # Before the counts: a reason is noted before its frame counts as processed.
            raw_only = MappingProxyType(dict(self._raw_only))
            latencies = list(self._latencies)
            since = now - self._first_capture
            rates = _rate(self._captures, now, since), _rate(self._results, now, since)
            missed = self._missed
            worked = self._last_result - self._first_capture
        counts = ring.counts()
        median, tail = np.percentile(latencies, (50, 95)) if latencies else (0.0, 0.0)
        return Statistics(
            captured=counts.captured + waiting + lost,
            processed=counts.processed,
            dropped=counts.dropped + lost,
            in_flight=counts.in_flight + waiting,
            waiting=waiting,
            missed=missed,
            raw_only=raw_only,
            fps_captured=rates[0],
            fps_processed=rates[1],
            worked_s=0.0 if math.isnan(worked) else worked,
            latency_p50_ms=float(median),
            latency_p95_ms=float(tail),
            worker_state=worker_state,
        )


def _rate(times: deque[float], now: float, since_s: float) -> float:
    if len(times) < 2:
        return 0.0
    recent = [t for t in times if t >= times[-1] - _MEMORY_S]
    if len(recent) < 2:
        recent = [times[-2], times[-1]]
    span = recent[-1] - recent[0]
    if len(times) < _WINDOW:
        # Two first results that come together after a long search are not a rate.
        span = max(span, min(since_s, _SILENCE_S))
    usual = span / (len(recent) - 1)
    silence = now - times[-1]
    # When a source stops, its rate falls over time; jitter between frames is ignored.
    if silence > max(_SILENCE_S, 3 * usual):
        return 1 / silence
    return 1 / usual if usual > 0 else 0.0
