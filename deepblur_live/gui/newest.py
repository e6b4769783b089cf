"""The newest result that a widget has received, and its age."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.gui.state_text import Chip, chip_of

if TYPE_CHECKING:
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session import LiveSession

__all__ = ["NewestResult"]


class NewestResult:
    """Follows a session's newest result.

    Attributes
    ----------
    result
        The newest result; None before the first.
    """

    def __init__(self) -> None:
        self.result: FrameResult | None = None
        self._at = -float("inf")
        self._interval = 0.0

    def take(self, session: LiveSession, now: float) -> bool:
        """Fetch the newest result at `now`, seconds; return whether it is a new one."""
        latest = session.listener.latest
        if latest is None or latest is self.result:
            return False
        self._interval = 0.0 if self.result is None else now - self._at
        self.result, self._at = latest, now
        return True

    def chip(self, session: LiveSession, now: float) -> Chip:
        """Return the session's state at `now`: STALE if the newest result is old."""
        return chip_of(
            self.result,
            session.status,
            session.listener.statistics,
            now - self._at,
            self._interval,
            session.watched,
        )
