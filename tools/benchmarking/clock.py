"""How long a piece of work takes: warmed up, repeated, and synchronised on a card."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Clock", "Timing"]


@dataclass(frozen=True)
class Timing:
    """Times of many runs, in their order, ms."""

    runs: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean: what a frame costs where some cost more than others."""
        return float(np.mean(self.runs))

    @property
    def p50(self) -> float:
        """The median."""
        return float(np.percentile(self.runs, 50))

    @property
    def p99(self) -> float:
        """The 99th percentile; of fewer than a hundred runs nearly the longest."""
        return float(np.percentile(self.runs, 99))


@dataclass(frozen=True)
class Clock:
    """Times work on one device.

    Parameters
    ----------
    device
        Where the work runs; a card is synchronised before and after each run.
    seconds
        How long each piece of work is repeated.
    least, most
        Fewest runs, however long they take, and most, however short.
    warm_up
        Most runs that do not count, first: libraries choose kernels, memory is
        allocated.
    """

    device: torch.device
    seconds: float = 3.0
    least: int = 5
    warm_up: int = 3
    most: int = 1000

    def time(
        self, work: Callable[[], object], before: Callable[[], object] | None = None
    ) -> Timing:
        """Time one piece of work, without what runs `before` each run."""
        return self.interleaved({"": work}, before)[""]

    def interleaved(
        self,
        works: Mapping[str, Callable[[], object]],
        before: Callable[[], object] | None = None,
    ) -> dict[str, Timing]:
        """Time several pieces of work in turn, each equally often.

        Other load of the machine then slows all of them alike, and the ratio of run i
        to run i is a fair one.
        """
        began = time.perf_counter()
        for number in range(self.warm_up):
            # Slow work needs no more than one: its first run is long enough.
            if number and time.perf_counter() - began > self.seconds:
                break
            for work in works.values():
                self._once(work, before)
        runs: dict[str, list[float]] = {name: [] for name in works}
        began = time.perf_counter()
        for number in range(self.most):
            spent = time.perf_counter() - began
            if number >= self.least and spent > self.seconds * len(works):
                break
            for name, work in works.items():
                runs[name].append(self._once(work, before))
        return {name: Timing(tuple(values)) for name, values in runs.items()}

    def _once(
        self, work: Callable[[], object], before: Callable[[], object] | None
    ) -> float:
        if before is not None:
            before()
        self._synchronise()
        began = time.perf_counter()
        work()
        self._synchronise()
        return (time.perf_counter() - began) * 1e3

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
