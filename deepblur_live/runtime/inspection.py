"""Which frames are inspected by reading numbers back, and how the others are scaled.

See docs/decisions/0190-frames-between-inspections.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from deepblur_live.runtime.calibration import BadFrame, Scaled, scale
from deepblur_live.runtime.frame_noise import FrameNoise
from deepblur_live.runtime.guard import untreatable
from deepblur_live.runtime.scaling_graph import ScalingGraph

if TYPE_CHECKING:
    import torch

    from deepblur_live.optics import NoiseModel
    from deepblur_live.profile import Camera
    from deepblur_live.runtime.frame import Frame

__all__ = ["FrameInspector"]

# Seconds between the frames that are inspected on a card: reading a number waits for
# the card. Spectra are averaged over seconds.
_EVERY_S = 0.05


class FrameInspector:
    """Scales frames; inspects all of them on a CPU, and some of them on a card.

    Frames between two inspections have the same defects, the same line of the noise in
    the light, and are clipped or not, as the last inspected one.

    Parameters
    ----------
    camera
        The profile's.
    cutoff
        The optics' coherent cut-off in cycles per pixel.
    device
        Where frames are deblurred.
    noise_every_s
        Least time between two measurements of the noise, as in `FrameNoise`.
    """

    def __init__(
        self, camera: Camera, cutoff: float, device: torch.device, noise_every_s: float
    ) -> None:
        self._cutoff, self._device = cutoff, device
        self._every_s = _EVERY_S if device.type == "cuda" else 0.0
        self._noise = FrameNoise(camera, cutoff, noise_every_s)
        self._graph = ScalingGraph(device, cutoff)
        # Range and geometry of the last inspected frame.
        self._inner: tuple[float, float] | None = None
        self._geometry: tuple[object, ...] = ()
        self.reset()

    def reset(self) -> None:
        """Forget earlier frames: the camera's settings have changed."""
        self._noise.reset()
        self._at, self._refusal = -math.inf, ""

    def scale(self, frame: Frame) -> tuple[Scaled, bool]:
        """Return the scaled frame, and whether it is to be inspected.

        Raises
        ------
        BadFrame
            As `deepblur_live.runtime.calibration.scale`.
        """
        recent = 0 <= frame.time - self._at < self._every_s
        known = recent and _geometry(frame) == self._geometry
        inner = self._inner if known else None
        scaled = scale(frame.pixels, self._device, self._cutoff, inner, self._graph)
        return scaled, not known

    def inspect(self, frame: Frame, scaled: Scaled, sigma: float) -> None:
        """Measure the noise of a frame when due, and whether it can be deblurred.

        Parameters
        ----------
        frame, scaled
            The frame.
        sigma
            Standard deviation that the identification found in the scaled frames.
        """
        self._inner = scaled.inner
        self._at, self._geometry = frame.time, _geometry(frame)
        whole = _is_whole(frame)
        self._noise.measure(scaled, frame.time, whole=whole)
        used, measured = self._noise.of(scaled, sigma, whole=whole)
        if measured is None:
            self._refusal = untreatable(scaled.image, used)
        else:
            self._refusal = untreatable(scaled.image, measured, used)

    def refuse(self) -> None:
        """Raise `BadFrame` while frames cannot be deblurred, whatever their blur."""
        if self._refusal:
            raise BadFrame(self._refusal)

    def noise(self, frame: Frame, scaled: Scaled, sigma: float) -> NoiseModel:
        """Return the noise of the scaled frame, on the CPU; as `inspect`."""
        return self._noise.of(scaled, sigma, whole=_is_whole(frame)).used


def _is_whole(frame: Frame) -> bool:
    """Whether the camera's values are whole numbers."""
    return frame.pixels.dtype.kind in "ui"


def _geometry(frame: Frame) -> tuple[object, ...]:
    return frame.pixels.shape, frame.pixels.dtype.str
