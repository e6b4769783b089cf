"""The path of a frame whose PSF is given: scale → deblur → check."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import numpy as np

from deepblur_live.drift import TrackState
from deepblur_live.identification.observed import with_leakage
from deepblur_live.identification.running import PowerSpectrum
from deepblur_live.identification.spectrum import noise_floor
from deepblur_live.runtime.pipeline import DeblurPipeline

if TYPE_CHECKING:
    import torch

    from deepblur_live.blur import Estimate
    from deepblur_live.blur.fixed_psf import FixedPsf
    from deepblur_live.drift import Tracker
    from deepblur_live.identification import Identifier
    from deepblur_live.optics.reduced_spectrum import ReducedSpectrum
    from deepblur_live.profile import Profile
    from deepblur_live.runtime.async_estimator import EstimatorThread
    from deepblur_live.runtime.best import BestExecutor
    from deepblur_live.runtime.calibration import Scaled
    from deepblur_live.runtime.frame import Frame

__all__ = ["FixedPsfPipeline"]


class FixedPsfPipeline(DeblurPipeline):
    """Deblurs frames with one PSF; its results have no estimate and no spectrum.

    Parameters
    ----------
    family
        The PSF.
    executor
        The executor that deblurs with it.
    profile
        The rig's camera, and how often the noise is measured.
    thread
        As in `DeblurPipeline`: given if others use the executor too.
    """

    def __init__(
        self,
        family: FixedPsf,
        executor: BestExecutor,
        profile: Profile,
        thread: EstimatorThread | None = None,
    ) -> None:
        model = profile.model
        noise = _FrameNoiseFloor(family.cutoff, model.average_s)
        super().__init__(
            family,
            # It has the parts of an identifier that every frame uses; a tracker would
            # be used only with estimates.
            cast("Identifier", noise),
            cast("Tracker", None),
            executor,
            profile.camera,
            model.identify_every_s,
            asynchronous=False,
            average_frames=model.average_frames,
            thread=thread,
        )
        self._measured = -math.inf
        none = np.zeros(0)
        self._identification.track = TrackState(
            0.0, none, np.zeros((0, 0)), math.nan, False
        )

    def _reduce(self, frame: Frame, scaled: Scaled) -> ReducedSpectrum | None:
        return None

    def _identify(self, frame: Frame, scaled: Scaled, observe: bool) -> Estimate | None:
        due = not 0 <= frame.time - self._measured < self._identification.every_s
        if (observe and due) or not self.identifier.spectrum.frames:
            self._measured = frame.time
            self.identifier.observe(scaled.image, frame.time)
        return None


class _FrameNoiseFloor:
    """Measures the noise as an `Identifier` does, but identifies nothing."""

    def __init__(self, cutoff: float, average_s: float) -> None:
        self.spectrum = PowerSpectrum(average_s, cutoff)
        self.noise_sigma = 0.01

    def observe(self, image: torch.Tensor, time: float) -> None:
        """Measure the noise of a frame (H, W), scaled to about [0, 1]."""
        self.spectrum.add(image, time)
        if self.spectrum.frames:
            average = self.spectrum.average
            floor = noise_floor(
                with_leakage(average.plain),
                average.plain_averages * self.spectrum.frames,
                self.spectrum.cutoff,
            )
            self.noise_sigma = float(floor) ** 0.5

    def reset(self) -> None:
        """Forget the frames so far."""
        self.spectrum.reset()

    def solve(self, problem: object) -> None:
        """Do nothing: no problem is posed."""

    def take_notes(self) -> list[str]:
        """Return nothing."""
        return []
