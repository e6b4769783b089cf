"""Whether a deblurred frame can be one: finite, of the frame's light, and its blur."""

from __future__ import annotations

import torch

from deepblur_live.optics import Convolution, extend
from deepblur_live.runtime.calibration import keeps_light

__all__ = ["FrameChecks", "reblurs"]

# The frame itself is a poor sharp image: blurred once more it misses the frame by its
# own detail. A sharp image does better, unless the noise is told ten times too high
# (1.1 of it at the most, over the simulated specimen at 96² to 512², noise to 0.1);
# one that is shifted by two pixels misses by 1.3 to 2.5 of it.
_OF_ITSELF, _LEAST = 1.2, 0.005


@torch.no_grad()
def reblurs(
    image: torch.Tensor, sharp: torch.Tensor, psf: torch.Tensor, sigma: float
) -> bool:
    """Return whether a sharp image, blurred again, is the frame to within its noise.

    Parameters
    ----------
    image, sharp
        (H, W) the scaled frame, and what was made of it, on any devices.
    psf
        (K, K).
    sigma
        Standard deviation of the noise.
    """
    kernel = psf.to(sharp.device)[None]
    frame = image.to(sharp.device)
    margin = kernel.shape[-1] // 2

    def missed(candidate: torch.Tensor) -> float:
        whole = extend(candidate.float()[None], 2 * margin)
        operator = Convolution(kernel, (whole.shape[-2], whole.shape[-1]))
        again = operator.forward(whole)[0, : frame.shape[0], : frame.shape[1]]
        # What light crosses the border is not known.
        inner = (slice(margin, -margin), slice(margin, -margin))
        return float((again - frame)[inner].std())

    allowed = max(_OF_ITSELF * missed(frame), sigma) + _LEAST
    # NaN fails the comparison too.
    return missed(sharp) <= allowed


class FrameChecks:
    """Light and finiteness of every frame, and the blur of every n-th.

    Parameters
    ----------
    reblur_every
        Frames between two checks of the blur. After a failure it is checked at every
        frame until one passes.
    """

    def __init__(self, reblur_every: int = 30) -> None:
        self._every = reblur_every
        self._since = reblur_every - 1

    def next_frame(self) -> None:
        """Count a frame."""
        self._since += 1

    def fault(
        self, image: torch.Tensor, sharp: torch.Tensor, psf: torch.Tensor, sigma: float
    ) -> str:
        """Return what is wrong with a deblurred frame, or nothing; as `reblurs`."""
        if not keeps_light(image, sharp):
            return "the deblurred frame failed its check of total light"
        if self._since < self._every:
            return ""
        if not reblurs(image, sharp, psf, sigma):
            return "the deblurred frame, blurred again, is not the frame"
        self._since = 0
        return ""
