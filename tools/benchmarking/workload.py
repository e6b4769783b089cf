"""What the benchmark works on: frames of a simulated microscope, of any side."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.acquisition.simulated_sample import SimulatedSample, StageDrift
from deepblur_live.acquisition.specimen import load_specimen
from deepblur_live.acquisition.trajectory import AberrationTrajectory
from deepblur_live.runtime.calibration import scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily

__all__ = ["SIGMA", "Workload"]

# About the noise of the simulated camera, of a frame in [0, 1].
SIGMA = 0.01
_PLACES = 4


class Workload:
    """Frames of a constant blur, on a stage that drifts.

    Parameters
    ----------
    side
        Of the frames, pixels; the specimen is extended by reflection as needed.
    family
        The optics.

    Attributes
    ----------
    coefficients, psf
        The true γ (P,) and its PSF (K, K).
    image
        (side, side) a frame scaled to about [0, 1].
    """

    def __init__(self, side: int, family: BlurFamily) -> None:
        self.side = side
        gamma = 0.5 * family.sample(1, torch.Generator().manual_seed(0))[0]
        stage = StageDrift()
        picture = load_specimen()
        needed = side + family.window + 2 * int(stage.amplitude_px) + 2
        extra = [(0, max(0, needed - n)) for n in picture.shape]
        sample = SimulatedSample(
            np.pad(picture, extra, mode="symmetric"),
            family=family,
            trajectory=AberrationTrajectory(tuple(gamma.tolist())),
            shape=(side, side),
            stage=stage,
        )
        grey = [
            torch.from_numpy(sample.expected_image(10.0 * i)) for i in range(_PLACES)
        ]
        electrons = [
            (image - sample.noise.offset_adu) * sample.noise.gain_e_per_adu
            for image in grey
        ]
        deviations = [sample.noise.variance(e.clamp(min=0)).sqrt() for e in electrons]
        self._places = itertools.cycle(list(zip(grey, deviations, strict=True)))
        self._generator = torch.Generator().manual_seed(0)
        self.coefficients, self.psf = gamma, family.psf(gamma)
        self.image = scale(self.fresh(), cutoff=family.cutoff).image

    def fresh(self) -> NDArray[np.uint16]:
        """Return the next frame, (side, side), with new noise.

        Repeated noise would not average out in the spectrum.
        """
        mean, deviation = next(self._places)
        noise = torch.randn(mean.shape, generator=self._generator)
        grey = (mean + deviation * noise).round_().clamp_(0, 65535)
        return grey.numpy().astype(np.uint16)
