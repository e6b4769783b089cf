"""When a worker that died is restarted: after a pause, a limited number of times."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["RestartPlan"]

_HEALTHY_S = 60.0


class RestartPlan:
    """Counts restarts in a row and schedules the next one.

    A worker that was never ready is not restarted: its weights, drivers or imports
    would fail again. After a minute of operation the count starts again.

    Parameters
    ----------
    delays_s
        Pause before each restart in a row; their number limits the restarts.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, delays_s: Sequence[float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._delays = tuple(delays_s)
        self._clock = clock
        self._count = 0
        self._ready_at: float | None = None
        self._came_up = False
        self._due_at: float | None = None

    @property
    def planned(self) -> bool:
        """Whether a restart follows."""
        return self._due_at is not None

    @property
    def due(self) -> bool:
        """Whether it is time for the planned restart."""
        return self._due_at is not None and self._clock() >= self._due_at

    def started(self) -> None:
        """Note that a worker is being started."""
        self._due_at = None

    def came_up(self) -> None:
        """Note that the worker is ready."""
        self._came_up = True
        self._ready_at = self._clock()

    def went_down(self) -> str:
        """Plan what follows the end of a worker, and describe it."""
        ready_at, self._ready_at = self._ready_at, None
        if ready_at is not None and self._clock() - ready_at > _HEALTHY_S:
            self._count = 0
        if not self._came_up or self._count >= len(self._delays):
            self._due_at = None
            return "it stays down"
        self._due_at = self._clock() + self._delays[self._count]
        self._count += 1
        return f"restart {self._count} of {len(self._delays)} follows"
