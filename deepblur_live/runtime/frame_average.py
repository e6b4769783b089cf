"""The mean of the last frames of a still specimen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from deepblur_live.optics import NoiseModel
    from deepblur_live.runtime.calibration import Scaled

__all__ = ["FrameAverage"]

# Side in pixels of the blocks in which a frame is compared with the mean.
_BLOCK = 8
# The specimen is still while the variance of the difference is at most this many times
# that of the noise, and the brightness is within this factor.
_STILL, _BRIGHTNESS = 2.0, 1.25
# The same ratio for each single block: an object may move in a still field.
_STILL_BLOCK = 40.0


class FrameAverage:
    """Averages frames of a still specimen, and starts again when it moves.

    The mean is exponential: each frame has the weight 1/n, with n up to `frames`.

    Parameters
    ----------
    frames
        Maximum number of frames; 1 to use only the last.
    """

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self.reset()

    def reset(self) -> None:
        """Forget the frames so far: the camera's settings have changed."""
        # Mean of the frames in grey values (H, W), their number, and the variance of
        # the mean over that of one frame.
        self._mean: torch.Tensor | None = None
        self._number, self._share = 0, 1.0

    @torch.no_grad()
    def add(self, scaled: Scaled, noise: NoiseModel) -> tuple[Scaled, float, int]:
        """Return the mean with a new frame, its noise, and its number of frames.

        Parameters
        ----------
        scaled
            The frame.
        noise
            Its noise, in its units.

        Returns
        -------
        tuple
            The mean in the units of the new frame, the variance of its noise over that
            of a frame, and the number of frames in it. The frame itself where the
            specimen has moved.
        """
        if self._frames <= 1:
            return scaled, 1.0, 1
        image = scaled.image
        grey = scaled.low + scaled.span * image
        before = self._mean
        if before is None or not self._is_still(grey, before, scaled, noise):
            self._mean, self._number, self._share = grey, 1, 1.0
            return scaled, 1.0, 1
        self._number = min(self._number + 1, self._frames)
        weight = 1 / self._number
        self._share = (1 - weight) ** 2 * self._share + weight**2
        self._mean = before.lerp(grey, weight)
        mean = replace(scaled, image=(self._mean - scaled.low) / scaled.span)
        return mean, self._share, self._number

    def _is_still(
        self,
        grey: torch.Tensor,
        before: torch.Tensor,
        scaled: Scaled,
        noise: NoiseModel,
    ) -> bool:
        """Return whether a frame equals the mean so far within its noise."""
        if grey.shape != before.shape:
            return False
        # Bleaching and a flickering lamp change the brightness a little.
        dark = scaled.low
        ratio = (grey.mean() - dark) / (before.mean() - dark)
        expected = dark + ratio * (before - dark)
        sigma = scaled.span * noise.to(grey.device).map(scaled.image[None])[0]
        variance = sigma.square() * (1 + self._share)
        blocks = F.avg_pool2d(
            torch.stack([grey - expected, variance])[:, None], _BLOCK
        )[:, 0]
        off = blocks[0].square() * _BLOCK**2 / blocks[1]
        # NaN fails the comparisons too.
        return bool(
            (off.mean() <= _STILL)
            & (off.amax() <= _STILL_BLOCK)
            & (ratio <= _BRIGHTNESS)
            & (ratio >= 1 / _BRIGHTNESS)
        )
