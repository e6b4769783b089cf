"""The share of a session that was watched, so that a change would have been found."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepblur_live.drift import DriftState

if TYPE_CHECKING:
    from collections.abc import Hashable

    from deepblur_live.drift import DriftStatus

__all__ = ["Watched", "WatchedTime"]

_WATCHING = (DriftState.OK, DriftState.WARN, DriftState.ALARM)
_UNWATCHED = (DriftState.STALE, DriftState.RAW_ONLY)
# A gap longer than this plus two usual intervals was not watched.
_SILENCE_S = 10.0


@dataclass(frozen=True)
class Watched:
    """How much of a session was watched.

    Parameters
    ----------
    total_s
        Seconds from the first frame to the last.
    watched_s
        Seconds with a baseline.
    provisional_s
        Seconds before there was one, with wider limits.
    """

    total_s: float = 0.0
    watched_s: float = 0.0
    provisional_s: float = 0.0

    @property
    def text(self) -> str:
        """The watched share as text; empty before the second frame."""
        if self.total_s <= 0:
            return ""
        share = 100 * (self.watched_s + self.provisional_s) / self.total_s
        text = f"watched for changes {share:.0f} % of the time"
        if self.provisional_s > 0:
            part = 100 * self.provisional_s / self.total_s
            text += f" ({part:.0f} % provisionally)"
        return text


class WatchedTime:
    """Adds up the watched time; written by one thread, read by any."""

    def __init__(self) -> None:
        self.so_far = Watched()
        self._last: float | None = None
        self._last_of: dict[Hashable, float] = {}
        self._intervals: deque[float] = deque(maxlen=5)

    def update(self, time: float, status: DriftStatus, series: Hashable = None) -> None:
        """Take a frame's time, and the status with it.

        The interval before a frame was watched if the frame could be judged, and if
        its series was not silent for longer than usual.
        """
        last, self._last = self._last, time
        own = self._last_of.get(series, last)
        self._last_of[series] = time
        if last is None or own is None or time <= last:
            return
        interval, before = time - last, self.so_far
        allowed = _SILENCE_S + 2 * max(self._intervals, default=0.0)
        self._intervals.append(time - own)
        heard = time - own <= allowed
        provisional = heard and status.provisional and status.state not in _UNWATCHED
        watched = heard and not provisional and status.state in _WATCHING
        self.so_far = Watched(
            before.total_s + interval,
            before.watched_s + interval * watched,
            before.provisional_s + interval * provisional,
        )
