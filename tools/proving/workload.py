"""What the stages work on: the shipped specimen, blurred and with noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

import deepblur_live
from deepblur_live.blur import family_from_profile
from deepblur_live.profile import Profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily

__all__ = ["Workload", "default_family"]

# Read by its path: its package needs the microscope's, which a bare machine lacks.
_SPECIMEN = Path("acquisition", "data", "specimen.png")
# Electrons of the brightest pixel, and the camera's.
_BRIGHTEST, _READ_NOISE, _GAIN, _OFFSET = 2000.0, 1.5, 0.5, 100.0


def default_family() -> BlurFamily:
    """Return the blurs of the default profile's optics."""
    return family_from_profile(Profile())


class Workload:
    """Frames of a constant blur.

    Parameters
    ----------
    side
        Of the frames, pixels.

    Attributes
    ----------
    family, coefficients
        The optics, and the true γ (P,).
    """

    def __init__(self, side: int) -> None:
        self.family = default_family()
        self._generator = torch.Generator().manual_seed(0)
        self.coefficients = 0.5 * self.family.sample(1, self._generator)[0]
        with Image.open(Path(deepblur_live.__file__).parent / _SPECIMEN) as picture:
            specimen = np.asarray(picture).astype(np.float32)
        needed = side + self.family.window
        extra = [(0, max(0, needed - n)) for n in specimen.shape]
        sharp = torch.from_numpy(np.pad(specimen, extra, mode="symmetric"))
        sharp = sharp[:needed, :needed] / specimen.max()
        operator = self.family.operator(self.coefficients[None], (needed, needed))
        half = self.family.window // 2
        blurred = operator.forward(sharp[None])[0, half : half + side][:, half:][
            :, :side
        ]
        self._electrons = _BRIGHTEST * blurred.clamp(min=0)

    def fresh(self) -> NDArray[np.uint16]:
        """Return the next frame, (side, side), with new noise."""
        deviation = (self._electrons + _READ_NOISE**2).sqrt()
        noise = torch.randn(self._electrons.shape, generator=self._generator)
        grey = _OFFSET + (self._electrons + deviation * noise) / _GAIN
        return grey.round_().clamp_(0, 65535).numpy().astype(np.uint16)
