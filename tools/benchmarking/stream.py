"""Live frames without a pause: how many a second, and how late each is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarking.clock import Timing
from benchmarking.stages import LiveFrames, Row, deblurring_floor_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarking.executors import Candidate
    from benchmarking.floor import Peaks
    from benchmarking.workload import Workload
    from deepblur_live.optics import ZernikeFamily

__all__ = ["LATENCY", "STREAM", "stream_rows"]

STREAM = "frames, live, begun before the last is down: interval"
LATENCY = "frames, live, begun before the last is down: latency"
_WARM_UP, _FEWEST = 10, 50
# Made beforehand: noise for a large frame takes longer than deblurring it on a card.
_FRAMES = 16


def stream_rows(
    work: Workload,
    family: ZernikeFamily,
    candidate: Candidate,
    seconds: float,
    peaks: Peaks,
) -> Iterator[Row]:
    """Time uint16 frames as fast as they go: scaled, identified when due, deblurred.

    As in the worker: each is begun with before the one before it is finished.

    Raises
    ------
    RuntimeError
        When one comes back raw: its time would mean nothing.
    """
    live = LiveFrames(work, family, candidate)
    grey = [work.fresh() for _ in range(_FRAMES)]
    intervals: list[float] = []
    latencies: list[float] = []
    origin = last = time.perf_counter()
    under_way = None
    count = 0
    try:
        while len(intervals) < _FEWEST or time.perf_counter() - origin < seconds:
            began = time.perf_counter()
            begun = live.begin(grey[count % _FRAMES], began - origin)
            count += 1
            if under_way is not None:
                earlier, its_beginning = under_way
                live.check(earlier.finish())
                now = time.perf_counter()
                if count > _WARM_UP:
                    intervals.append((now - last) * 1e3)
                    latencies.append((now - its_beginning) * 1e3)
                last = now
            under_way = begun, began
        if under_way is not None:
            under_way[0].finish()
    finally:
        live.close()
    floor = deblurring_floor_ms(work, candidate, peaks)
    interval, latency = Timing(tuple(intervals)), Timing(tuple(latencies))
    yield Row(STREAM, work.side, candidate.name, interval, floor)
    yield Row(LATENCY, work.side, candidate.name, latency)
