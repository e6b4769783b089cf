"""Frames through a card without a pause: how many a second, and how late each is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarking.clock import Timing
from benchmarking.stages import Row
from benchmarking.workload import SIGMA
from deepblur_live.deblurring import UnrolledFista
from deepblur_live.runtime.graph_executor import GraphExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarking.executors import Candidate
    from benchmarking.workload import Workload

__all__ = ["LATENCY", "STREAM", "stream_rows"]

STREAM = "stream of uint16, up, deblurred, down: interval"
LATENCY = "stream of uint16, up, deblurred, down: latency"
_WARM_UP, _FEWEST = 10, 50


def stream_rows(work: Workload, candidate: Candidate, seconds: float) -> Iterator[Row]:
    """Time uint16 frames up, deblurred and down, three at a time; none identified."""
    executor = candidate.executor
    # The quality preset does not run on static buffers.
    fixed = isinstance(candidate.pack.deblurring, UnrolledFista)
    if not isinstance(executor, GraphExecutor) or not fixed:
        return
    stream = executor.stream((work.side, work.side), np.dtype(np.uint16))
    psf = work.psf.to(executor.device)
    frames = [work.fresh() for _ in range(4)]
    low, span = float(frames[0].min()), float(np.ptp(frames[0]))
    intervals: list[float] = []
    latencies: list[float] = []
    begun = last = time.perf_counter()
    count = 0
    while count < _WARM_UP + _FEWEST or time.perf_counter() - begun < seconds:
        if stream.full:
            stream.collect()
            now = time.perf_counter()
            if count >= _WARM_UP:
                intervals.append((now - last) * 1e3)
                latencies.append(stream.last_latency_ms)
            last = now
        stream.submit(frames[count % len(frames)], low, span, psf, SIGMA)
        count += 1
    while stream.under_way:
        stream.collect()
    for stage, runs in ((STREAM, intervals), (LATENCY, latencies)):
        yield Row(stage, work.side, candidate.name, Timing(tuple(runs)))
