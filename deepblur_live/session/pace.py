"""How long a session lasted, by its frames and by the clock on the wall."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pace"]


class Pace:
    """Counts results, with the times of the first and the last.

    A recording's own clock says how long it lasted, not how fast it went through.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._results = 0
        self._first_time = self.last_time = 0.0
        self._first_at = self._last_at = 0.0

    def result(self, time: float) -> None:
        """Take in a result, of a frame captured at `time`."""
        self._last_at = self._clock()
        if self._results == 0:
            self._first_time, self._first_at = time, self._last_at
        self.last_time = max(self.last_time, time)
        self._results += 1

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the last."""
        return self.last_time - self._first_time

    @property
    def fps(self) -> float:
        """Results a second by the clock on the wall; 0 with one alone."""
        worked = self._last_at - self._first_at
        return (self._results - 1) / worked if worked > 0 else 0.0
