"""How long work takes on the device, in milliseconds: the median of many runs."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["milliseconds"]

_WARM_UP, _FEWEST, _MOST, _TOGETHER = 3, 5, 30, 10
_SECONDS = 1.5


def milliseconds(work: Callable[[], object], device: str, graph: bool = True) -> float:
    """Return the time of one call.

    On a card ten calls are recorded as one CUDA graph, so that launching them is not
    timed, and events are timed; what cannot be recorded is launched one by one.
    """
    if device != "cuda":
        runs = []
        for _ in range(_WARM_UP):
            began = time.perf_counter()
            work()
            runs.append((time.perf_counter() - began) * 1e3)
        return statistics.median(runs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            work()
        stream.synchronize()
        if graph:
            recorded = torch.cuda.CUDAGraph()
            with torch.cuda.graph(recorded, stream=stream):
                for _ in range(_TOGETHER):
                    work()
            run: Callable[[], object] = recorded.replay
        else:

            def run() -> None:
                for _ in range(_TOGETHER):
                    work()

        run()
        runs, began = [], time.perf_counter()
        while len(runs) < _MOST:
            if len(runs) >= _FEWEST and time.perf_counter() - began > _SECONDS:
                break
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            runs.append(begin.elapsed_time(end) / _TOGETHER)
    return statistics.median(runs)
