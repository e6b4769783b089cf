"""Do the frames show another place at once? A stage without a motor tells nobody."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Scenery"]

# A frame as so many means a side, each of enough pixels that neither noise nor blur
# shows; of no more pixels than so many a side.
_SIDE = 16
_PIXELS = 256
# Neighbouring frames of one place are alike to so much. Where they are not (nothing but
# noise, cells that race, a frame an hour) nothing can be said.
_USUAL, _OTHER = 0.9, 0.5
_FRAMES = 8


class Scenery:
    """Compares each frame with the one before, at the scale of a sixteenth of it.

    Another place is told where likeness falls from what it has usually been. What the
    optics do is finer than that, and what the lamp does is the same everywhere.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget it: another place is known of, or another way of looking."""
        self._last: NDArray[np.float64] | None = None
        self._likeness: deque[float] = deque(maxlen=_FRAMES)

    def notice(self, pixels: NDArray[Any]) -> str:
        """Return why this frame cannot be compared with the last, or nothing."""
        seen = _thumbnail(pixels)
        last, self._last = self._last, seen
        if last is None or last.shape != seen.shape:
            return ""
        likeness = float(np.vdot(last, seen))
        usual = len(self._likeness) == _FRAMES and min(self._likeness) >= _USUAL
        if usual and likeness < _OTHER:
            self._likeness.clear()
            return "the frames show another place"
        self._likeness.append(likeness)
        return ""


def _thumbnail(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Return means of blocks, of mean 0 and length 1 together."""
    step = max(1, min(pixels.shape) // _PIXELS)
    few = pixels[::step, ::step]
    rows, columns = (max(1, side // _SIDE) for side in few.shape)
    high, wide = few.shape[0] // rows, few.shape[1] // columns
    blocks = few[: high * rows, : wide * columns].reshape(high, rows, wide, columns)
    means: NDArray[np.float64] = blocks.mean(axis=(1, 3), dtype=np.float64)
    means = means - means.mean()
    length = float(np.linalg.norm(means))
    return means / length if length > 0 else means
