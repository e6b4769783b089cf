"""Display levels that follow the frames without flicker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AutoContrast", "finite_sample"]

# Pixels that are read: about 65 in a tail of 0.1 %, at about 1 ms per frame.
_MAX_SAMPLES = 65_536
# Weight of the newest frame.
_SMOOTHING = 0.2
# Change of a level, as a fraction of the span, above which smoothing is skipped.
_JUMP = 0.25


def finite_sample(image: NDArray[Any]) -> NDArray[np.float64]:
    """Return finite pixels (N,) of an image, on a grid of at most about 65 000."""
    step = max(1, int(np.sqrt(image.size / _MAX_SAMPLES)))
    sample = image[::step, ::step]
    finite: NDArray[np.float64] = sample[np.isfinite(sample)].astype(np.float64)
    return finite


class AutoContrast:
    """Black and white levels from the percentiles of each frame, smoothed over frames.

    Smoothing keeps noise from making the image flicker. It is skipped when a level
    changes by a quarter of the span, so that the display follows a new scene at once.

    Parameters
    ----------
    clip_percent
        Percentage of the pixels ignored at each end.
    """

    def __init__(self, clip_percent: float) -> None:
        self._clip = clip_percent
        self._levels: tuple[float, float] | None = None

    @property
    def levels(self) -> tuple[float, float]:
        """Current levels, low < high; (0, 1) before the first frame."""
        return self._levels or (0.0, 1.0)

    def set(self, low: float, high: float) -> None:
        """Use these levels until the next update."""
        self._levels = _separate(low, high)

    def restart(self) -> None:
        """Take the next update's levels as they are, without smoothing."""
        self._levels = None

    def update(self, image: NDArray[Any]) -> tuple[float, float]:
        """Update the levels with an (H, W) or (H, W, 3) image and return them.

        An image without finite pixels leaves them unchanged.
        """
        finite = finite_sample(image)
        if finite.size == 0:
            return self.levels
        low, high = np.percentile(finite, (self._clip, 100.0 - self._clip))
        new = _separate(float(low), float(high))
        old = self._levels
        if old is None:
            self._levels = new
            return new
        span = max(new[1] - new[0], old[1] - old[0])
        change = max(abs(new[0] - old[0]), abs(new[1] - old[1]))
        weight = 1.0 if change > _JUMP * span else _SMOOTHING
        self._levels = _separate(
            old[0] + weight * (new[0] - old[0]), old[1] + weight * (new[1] - old[1])
        )
        return self._levels


def _separate(low: float, high: float) -> tuple[float, float]:
    # A constant image is drawn mid-grey; equal levels would divide by zero.
    least = max(abs(low), abs(high), 1.0) * 1e-6
    if high - low >= least:
        return low, high
    return low - least, high + least
