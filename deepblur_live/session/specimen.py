"""When does the camera look at something else? Then drift needs a new baseline."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepblur_live.runtime.frame import Frame

__all__ = ["SpecimenWatch"]

# Parts of a frame's place in an MDA, and how a change of each is called.
_AXES = {
    "p": "the position has changed",
    "c": "the channel has changed",
    "z": "the focus has been moved",
    "g": "the tile has changed",
}
_EXPOSURE_SHARE = 0.02


class SpecimenWatch:
    """Notices that frames show another place, or the same in another way.

    What an estimate gets wrong for one specimen differs from what it gets wrong for
    the next: compared, the two would look like a change of the optics.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = ""
        self._seen: dict[str, Any] = {}

    def tell(self, reason: str) -> None:
        """Say, from any thread, that the next frames show something else."""
        with self._lock:
            self._told = reason

    def notice(self, frame: Frame) -> str:
        """Return why this frame cannot be compared with the last, or nothing."""
        with self._lock:
            told, self._told = self._told, ""
        index = frame.metadata.get("index")
        index = index if isinstance(index, dict) else {}
        seen = {
            "camera": frame.metadata.get("camera"),
            "size": (frame.pixels.shape, str(frame.pixels.dtype)),
            "exposure": frame.metadata.get("exposure_ms"),
            **{axis: index.get(axis) for axis in _AXES},
        }
        before, self._seen = self._seen, seen
        if not before:
            return ""
        if told:
            return told
        if before["camera"] != seen["camera"]:
            return "the camera has changed"
        if before["size"] != seen["size"]:
            return "the frame's size has changed"
        if not _same_exposure(before["exposure"], seen["exposure"]):
            return "the exposure has changed"
        changed = (axis for axis in _AXES if before[axis] != seen[axis])
        return next((_AXES[axis] for axis in changed), "")


def _same_exposure(before: Any, now: Any) -> bool:
    numbers = isinstance(before, int | float) and isinstance(now, int | float)
    if not numbers:
        # Where it is not told, or no longer told, nothing is known to have changed.
        return True
    return math.isclose(before, now, rel_tol=_EXPOSURE_SHARE)
