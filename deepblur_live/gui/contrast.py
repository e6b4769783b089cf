"""Levels that follow the frames, ignoring the tails, without flicker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AutoContrast"]

# Enough for 0.1 % tails to hold some sixty pixels, at about a millisecond a frame.
_MAX_SAMPLES = 65_536


class AutoContrast:
    """Black and white levels from each frame's percentiles, smoothed over frames.

    Small movements are smoothed away, so that noise does not make the picture flicker;
    a new scene (levels moved by more than `jump` of their span) is followed at once, so
    that nothing sticks to the first frame.

    Parameters
    ----------
    clip_percent
        Share of the pixels ignored at each end, in percent.
    smoothing
        Weight of the newest frame, in (0, 1].
    jump
        Movement of a level, as a share of the span, above which smoothing is skipped.
    """

    def __init__(
        self, clip_percent: float, *, smoothing: float = 0.2, jump: float = 0.25
    ) -> None:
        self._clip = clip_percent
        self._smoothing = smoothing
        self._jump = jump
        self._levels: tuple[float, float] | None = None

    @property
    def levels(self) -> tuple[float, float]:
        """Current levels, low < high; (0, 1) before the first frame."""
        return self._levels or (0.0, 1.0)

    def update(self, picture: NDArray[Any]) -> tuple[float, float]:
        """Take a frame, (H, W) or (H, W, 3), into account; return the levels.

        A frame without a finite pixel changes nothing.
        """
        step = max(1, int(np.sqrt(picture.size / _MAX_SAMPLES)))
        sample = picture[::step, ::step]
        finite = sample[np.isfinite(sample)].astype(np.float64)
        if finite.size == 0:
            return self.levels
        low, high = np.percentile(finite, (self._clip, 100.0 - self._clip))
        new = _apart(float(low), float(high))
        old = self._levels
        if old is None:
            self._levels = new
            return new
        span = max(new[1] - new[0], old[1] - old[0])
        moved = max(abs(new[0] - old[0]), abs(new[1] - old[1]))
        weight = 1.0 if moved > self._jump * span else self._smoothing
        self._levels = _apart(
            old[0] + weight * (new[0] - old[0]), old[1] + weight * (new[1] - old[1])
        )
        return self._levels


def _apart(low: float, high: float) -> tuple[float, float]:
    # A flat picture is drawn mid-grey rather than divided by zero.
    least = max(abs(low), abs(high), 1.0) * 1e-6
    if high - low >= least:
        return low, high
    return low - least, high + least
