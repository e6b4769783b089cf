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
        None before the first.
    """

    def __init__(self) -> None:
        self.result: FrameResult | None = None
        self._at = -float("inf")
        self._interval = 0.0

    def take(self, session: LiveSession, now: float) -> bool:
        """Look at the session at `now`, seconds; whether there is another result."""
        latest = session.listener.latest
        if latest is None or latest is self.result:
            return False
        self._interval = 0.0 if self.result is None else now - self._at
        self.result, self._at = latest, now
        return True

    def chip(self, session: LiveSession, now: float) -> Chip:
        """Return the session's state, in which an old result counts."""
        return chip_of(
            self.result,
            session.status,
            session.listener.statistics,
            now - self._at,
            self._interval,
            session.watched,
        )
