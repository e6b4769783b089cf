"""From grey values to what the networks read, and back; and frames that cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepblur_live.identification import WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BadFrame", "Scaled", "keeps_light", "scale"]

# A picture with more clipped pixels than this does not show its blur.
_MAX_SATURATED = 0.01
_CEILINGS = (255, 1023, 4095, 16383, 65535)
# Statistics are taken on about so many pixels: a percentile needs no more.
_SAMPLE = 65_536
_CPU = torch.device("cpu")
# A hot pixel is brighter than this (1 is the 99.9 percentile), and its third brightest
# neighbour rises less above the dimmest than this share of it. At the coarsest sampling
# (2.2 pixels a λ/NA) a focused point's rises by 0.07, at 3.8 pixels by 0.4.
_HOT, _SPREAD = 1.5, 0.05
# A deblurred frame has the light of the raw one, but for what crosses the border. Of
# held-out sharp frames themselves 0.4 % did at 512², 0.8 % at 256², 5 % at 128² and
# 14 % at 64²; of ours 0.5, 1.2, 2.8 and 7.3 %.
_LIGHT, _LIGHT_SIDE = 0.01, 512
# The light of a darker frame is compared with so much, of its range.
_DARK = 0.1


class BadFrame(ValueError):
    """A frame that cannot be deblurred; the text says why, in a few words."""


@dataclass(frozen=True)
class Scaled:
    """A frame scaled to about [0, 1], and the way back.

    Parameters
    ----------
    image
        (H, W) float32, on the device it was scaled for.
    low, span
        Grey values: ``pixels = low + span · image``.
    """

    image: torch.Tensor
    low: float
    span: float

    def restore(self, image: torch.Tensor) -> torch.Tensor:
        """Return an image in the frame's grey values, (H, W) float32, on the CPU.

        From a card it is on its way down, in torch's current stream.
        """
        grey = (image * self.span + self.low).float()
        # Into page-locked memory, which takes it several times as fast.
        return grey.to("cpu", non_blocking=True)

    def noise_variance(
        self, offset: float, gain: float, read_noise: float, level: float
    ) -> float:
        """Return a calibrated camera's mean noise variance, in the image's units.

        Parameters
        ----------
        offset, gain, read_noise
            Grey value without light, electrons a grey value, rms electrons.
        level
            Mean of what of the image is asked about.
        """
        electrons = max(0.0, (level * self.span + self.low - offset) * gain)
        return (electrons + read_noise**2) / gain**2 / self.span**2


def scale(pixels: NDArray[Any], device: torch.device = _CPU) -> Scaled:
    """Scale a frame robustly, from its 0.1 and 99.9 percentiles.

    Parameters
    ----------
    pixels
        (H, W) grey values.
    device
        Where it is scaled, and stays.

    Raises
    ------
    BadFrame
        When it is not grey, too small, constant, saturated or not finite.
    """
    if pixels.ndim != 2:
        raise BadFrame(f"not a grey picture (shape {pixels.shape})")
    if pixels.dtype.kind not in "uif":
        raise BadFrame(f"not a number type ({pixels.dtype})")
    if min(pixels.shape) < WINDOW:
        height, width = pixels.shape
        raise BadFrame(f"too small ({height} × {width}, at least {WINDOW} × {WINDOW})")
    # Torch reads what may be written only.
    native = np.require(pixels, pixels.dtype.newbyteorder("="), ["C", "W"])
    stride = max(1, int(np.sqrt(native.size / _SAMPLE)))
    sample = native[::stride, ::stride]
    if native.dtype.kind == "f" and not np.isfinite(native).all():
        raise BadFrame("not a number (NaN or infinity)")
    highest = sample.max()
    if native.dtype.kind == "u" and int(highest) in _CEILINGS:
        clipped = float(np.mean(sample == highest))
        if clipped > _MAX_SATURATED and highest > sample.min():
            raise BadFrame(f"saturated ({clipped:.0%} of the pixels)")
    low, high = (float(v) for v in np.percentile(sample, (0.1, 99.9)))
    if not high > low:
        raise BadFrame("constant")
    wide = native.dtype.kind != "u" or native.dtype.itemsize > 2
    here = torch.from_numpy(native.astype(np.float64) if wide else native)
    if device.type == "cuda":
        # A camera's grey values go up as they are, half as many bytes as float32.
        here = here.pin_memory().to(device, non_blocking=True)
    # A copy even of float64: the pixels are the frame's.
    image = here.to(torch.float64 if wide else torch.float32, copy=True)
    # In place: each pass over fresh memory costs as much as the arithmetic.
    image.sub_(low).div_(high - low)
    _mend_hot_pixels(image)
    scaled = image.float()
    if wide and not bool(torch.isfinite(scaled).all()):
        raise BadFrame("its values are out of range")
    return Scaled(scaled, low, high - low)


def keeps_light(image: torch.Tensor, sharp: torch.Tensor) -> bool:
    """Return whether a deblurred image (H, W) has the light of its scaled frame (H, W).

    Within 1 %, from 512 pixels on; smaller frames may differ by more, as their border
    is a larger part of them. An image that is not finite has not.
    """
    light = float(image.mean())
    share = _LIGHT * max(1.0, _LIGHT_SIDE / min(image.shape))
    # NaN fails the comparison too.
    return abs(float(sharp.mean()) - light) <= share * max(light, _DARK)


def _mend_hot_pixels(image: torch.Tensor) -> None:
    """Replace, in place, bright pixels that stand alone by their neighbours' median.

    A PSF spreads light over its neighbours; a hot pixel or a cosmic ray does not, and
    one of them would rule the spectrum.
    """
    rows, columns = torch.nonzero(image > _HOT, as_tuple=True)
    # Many are a bright specimen, and each costs a little.
    if not 0 < len(rows) <= image.numel() // 1000 + 1:
        return
    around = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    height, width = image.shape
    neighbours = torch.stack(
        [
            image[(rows + i).clamp(0, height - 1), (columns + j).clamp(0, width - 1)]
            for i, j in around
        ]
    )
    ordered = neighbours.sort(0).values
    rise = image[rows, columns] - ordered[0]
    alone = ordered[-3] - ordered[0] < _SPREAD * rise
    # The median of eight: between the fourth and the fifth.
    image[rows[alone], columns[alone]] = ordered[3:5, alone].mean(0)
