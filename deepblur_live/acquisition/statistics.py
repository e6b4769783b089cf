"""How the acquisition is doing: counts, rates and latencies, frozen at one moment."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.acquisition.worker import WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Meter", "Statistics"]

_WINDOW = 256
"""Frames that rates and latencies are taken over."""
_MEMORY_S = 10.0
"""Rates forget what lies longer back: a pause, another exposure."""
_PATIENCE_S = 1.0
_MOST_REASONS = 32
"""A reason that carries a number must not make a key of its own for every frame."""


@dataclass(frozen=True)
class Statistics:
    """A listener at one moment.

    Parameters
    ----------
    captured, processed, dropped, in_flight
        Frames; ``captured == processed + dropped + in_flight`` always. Processed are
        all that were answered, raw-only ones included.
    camera_gaps
        Frames that the live tap never saw, from gaps in the camera's numbering.
        They are not part of `captured`.
    raw_only
        Frames answered raw, by reason.
    fps_captured, fps_processed
        Frames a second, over the last 10 s and at most 256 frames.
    latency_p50_ms, latency_p95_ms
        From the capture to the result in this process; 0 before the first.
    worker_state
        Whether frames are deblurred now.
    """

    captured: int = 0
    processed: int = 0
    dropped: int = 0
    in_flight: int = 0
    camera_gaps: int = 0
    raw_only: Mapping[str, int] = field(default_factory=dict)
    fps_captured: float = 0.0
    fps_processed: float = 0.0
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    worker_state: WorkerState = WorkerState.STOPPED


class Meter:
    """Rates, latencies and reasons, fed by several threads.

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
        self._raw_only: dict[str, int] = {}
        self._camera_gaps = 0

    def captured(self) -> None:
        """Note a frame captured now."""
        now = self._clock()
        with self._lock:
            self._captures.append(now)

    def answered(self, latency_ms: float, raw_reason: str | None) -> None:
        """Note a frame answered now; `raw_reason` is None for a deblurred one."""
        now = self._clock()
        with self._lock:
            self._results.append(now)
            self._latencies.append(latency_ms)
            if raw_reason is not None:
                known = raw_reason in self._raw_only
                if not known and len(self._raw_only) >= _MOST_REASONS:
                    raw_reason = "other"
                self._raw_only[raw_reason] = self._raw_only.get(raw_reason, 0) + 1

    def missed(self, n_frames: int) -> None:
        """Note frames that the camera made and the tap never saw."""
        with self._lock:
            self._camera_gaps += n_frames

    @property
    def camera_gaps(self) -> int:
        """Frames missed until now."""
        with self._lock:
            return self._camera_gaps

    @property
    def raw_only(self) -> Mapping[str, int]:
        """Frames answered raw, by reason."""
        with self._lock:
            return MappingProxyType(dict(self._raw_only))

    def rates(self) -> tuple[float, float]:
        """Return captured and processed frames a second."""
        now = self._clock()
        with self._lock:
            return _rate(self._captures, now), _rate(self._results, now)

    def latencies_ms(self) -> tuple[float, float]:
        """Return the median and the 95th percentile of the latency."""
        with self._lock:
            recent = list(self._latencies)
        if not recent:
            return 0.0, 0.0
        median, tail = np.percentile(recent, (50, 95))
        return float(median), float(tail)


def _rate(times: deque[float], now: float) -> float:
    if len(times) < 2:
        return 0.0
    recent = [t for t in times if t >= times[-1] - _MEMORY_S]
    if len(recent) < 2:
        recent = [times[-2], times[-1]]
    usual = (recent[-1] - recent[0]) / (len(recent) - 1)
    silence = now - times[-1]
    # A source that stopped is seen to slow down; jitter between frames is not.
    if silence > max(_PATIENCE_S, 3 * usual):
        return 1 / silence
    return 1 / usual if usual > 0 else 0.0
