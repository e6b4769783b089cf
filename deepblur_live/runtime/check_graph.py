"""Compare deblurred frames, blurred again, with the raw ones on the frames' device.

On a card these steps are a CUDA graph, and nothing is read back meanwhile.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from deepblur_live.optics import frame_part, seven_smooth
from deepblur_live.runtime.graph import FrameSteps

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily, LinearBlur
    from deepblur_live.optics import NoiseModel

__all__ = ["BANDS", "WINDOW", "CheckGraph", "band", "band_means"]

WINDOW = 64
"""Side in pixels of the windows in which the residual's spectrum is measured."""
# Maximum number of windows; more would not improve the check.
_MOST = 32
# Radius in pixels of the mean on which the noise at a pixel depends (`local_light`).
_LIGHT = 2
# Least side in pixels of the part of a frame that is judged.
_LEAST_INNER = 16
BANDS = ((0.1, 0.5), (0.5, 0.98), (1.04, 2.0), (0.12, 0.3), (0.5, 0.85))
"""Bands of frequencies as shares of the OTF's cut-off.

Where the blur passes detail, where it passes almost none, and where there is noise
alone; then those in which the specimen that the frame implies is compared, coarse and
fine."""


class CheckGraph(FrameSteps):
    """Compares deblurred frames of one shape, blurred again, with the raw ones.

    Parameters
    ----------
    family
        The rig's blurs.
    shape
        (H, W) of the frames.
    device
        Device of the frames.

    Attributes
    ----------
    windows
        Number of whole windows that the spectra are worth; 0 where a frame is too small
        to be judged.
    """

    def __init__(
        self, family: BlurFamily, shape: tuple[int, int], device: torch.device
    ) -> None:
        super().__init__(family, shape, device)
        self._sharp = torch.zeros(shape, device=device)
        self._numbers = torch.zeros(2 * len(BANDS) + 2, device=device)
        self._shape = seven_smooth(shape[0]), seven_smooth(shape[1])
        # Near the border the blurred image depends on light from outside.
        self._edge = family.window // 2
        inner = min(shape) - 2 * self._edge
        self.windows = 0.0
        if inner >= _LEAST_INNER:
            side = min(WINDOW, inner)
            self._taper = _taper(side).to(device)
            weights, empty = _weights(family.cutoff)
            self._weights, self._empty = weights.to(device), empty.to(device)
            count = len(_windows(self._image, self._edge))
            self.windows = count * (side / WINDOW) ** 2

    def run(
        self,
        image: torch.Tensor,
        sharp: torch.Tensor,
        kernels: tuple[torch.Tensor, ...],
        noise: NoiseModel,
    ) -> torch.Tensor:
        """Return the measures of a frame (2·5 + 2,), on its device.

        Mean power in the `BANDS`, over that of the noise, of the residual and of the
        frame; then the means of the frame and of the deblurred one.

        Parameters
        ----------
        image, sharp
            (H, W) the scaled frame and the deblurred one, on the device.
        kernels, noise
            As `FrameSteps.start`.
        """
        self._sharp.copy_(sharp)
        self.start(image, kernels, noise)
        return self._numbers

    def _make_operator(self) -> LinearBlur:
        rows, columns = self._image.shape
        return self._family.operator_from(self._kernels, self._shape, (rows, columns))

    def _steps(self) -> None:
        image, sharp, numbers = self._image, self._sharp, self._numbers
        torch.stack([image.mean(), sharp.mean()], out=numbers[-2:])
        if not self.windows:
            return
        assert self._operator is not None
        rows, columns = image.shape
        down, right = frame_part(self._shape, (rows, columns))
        padding = (
            *(right.start, self._shape[1] - right.stop),
            *(down.start, self._shape[0] - down.stop),
        )
        whole = F.pad(sharp[None, None], padding, mode="replicate")[0]
        again = self._operator.forward(whole)[0, down, right]
        frame, blurred = (_windows(part, self._edge) for part in (image, again))
        both = torch.stack([blurred - frame, frame]) / self._noise.map(frame)
        inside = both[..., _LIGHT:-_LIGHT, _LIGHT:-_LIGHT]
        power = _spectra(inside, self._taper)
        torch.addmm(
            self._empty,
            power.flatten(1),
            self._weights,
            out=numbers[:-2].view(2, len(BANDS)),
        )


def band_means(power: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Return the mean power (B, 5) of spectra (B, W, W//2+1) in `BANDS`; 1 if empty."""
    weights, empty = _weights(cutoff)
    means: torch.Tensor = power.flatten(1) @ weights + empty
    return means


@lru_cache(maxsize=4)
def _weights(cutoff: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights (W·(W//2+1), 5) of means over the bands, and (5,) 1 if empty.

    One product: selecting the frequencies of each band takes longer.
    """
    bands = torch.stack([band(*each, cutoff).flatten().float() for each in BANDS], 1)
    count = bands.sum(0)
    return bands / count.clamp(min=1), (count == 0).float()


@lru_cache(maxsize=16)
def band(low: float, high: float, cutoff: float) -> torch.Tensor:
    """Return the mask (W, W//2+1) of a band, in shares of the OTF's cut-off."""
    down = torch.fft.fftfreq(WINDOW)[:, None]
    radius = torch.hypot(down, torch.fft.rfftfreq(WINDOW)) / (2 * cutoff)
    return (radius >= low) & (radius < high)


def _windows(image: torch.Tensor, edge: int) -> torch.Tensor:
    """Return windows (N, W + 2·2, W + 2·2) of the inside of an image (H, W).

    They include the surrounding pixels on which their noise depends.

    Parameters
    ----------
    image
        (H, W).
    edge
        Width of the border that is left out of the windows themselves.
    """
    out = edge - _LIGHT
    inside = image[out : image.shape[0] - out, out : image.shape[1] - out]
    side = min(WINDOW, *(size - 2 * _LIGHT for size in inside.shape))
    wide = side + 2 * _LIGHT
    windows = inside.unfold(0, wide, side).unfold(1, wide, side).flatten(0, 1)
    return windows[:: -(-len(windows) // _MOST)]


def _spectra(windows: torch.Tensor, taper: torch.Tensor) -> torch.Tensor:
    """Return the mean power spectra (B, W, W//2+1) of windows (B, N, w, w), w ≤ W."""
    tapered = (windows - windows.mean((-2, -1), keepdim=True)) * taper
    # Windows of small frames are filled up with zeros.
    spectra = torch.fft.rfft2(tapered, s=(WINDOW, WINDOW)) / len(taper)
    power: torch.Tensor = spectra.real.square()
    return power.addcmul_(spectra.imag, spectra.imag).mean(1)


def _taper(side: int) -> torch.Tensor:
    """Return the Hann window (w, w), of mean square 1."""
    line = torch.hann_window(side)
    taper = line[:, None] * line
    return taper / taper.square().mean().sqrt()
