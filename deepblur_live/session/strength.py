"""Notes when frames begin to be shown at reduced strength, and when that ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from deepblur_live.drift import clock_text
from deepblur_live.runtime.frame import FrameState

if TYPE_CHECKING:
    from deepblur_live.runtime.frame import FrameResult
    from deepblur_live.session.notifier import Notifier

__all__ = ["StrengthWatch"]

_log = logging.getLogger(__name__)

# Frames have a reason if the strength is below 0.75. Hysteresis: a strength close to
# that must not cause an event with every estimate.
_RESTORED = 0.8


class StrengthWatch:
    """Writes one event, and one line to the log, when the strength falls or recovers.

    Raw frames, whose own reasons are recorded, change nothing.

    Parameters
    ----------
    notifier
        Logs the events.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier, self._reduced = notifier, False

    def follow(self, result: FrameResult) -> None:
        """Take the next result."""
        if result.state is not FrameState.DEBLURRED:
            return
        if self._reduced:
            reduced = bool(result.reason) or result.strength < _RESTORED
        else:
            reduced = bool(result.reason) and result.strength < 1
        if reduced == self._reduced:
            return
        self._reduced = reduced
        if reduced:
            text, kind = result.reason, "strengthReduced"
        else:
            text = f"frames are shown at {_RESTORED:.0%} strength or more again"
            kind = "strengthRestored"
        _log.info("%s: %s", clock_text(self._notifier.time), text)
        self._notifier.event(kind, strength=round(result.strength, 3), reason=text)
