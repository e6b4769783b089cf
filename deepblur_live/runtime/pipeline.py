"""One frame's way: scale → identify → track → deblur → check."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from deepblur_live.drift import Tracker, TrackState
from deepblur_live.identification import Identifier
from deepblur_live.optics import Estimate, ZernikeFamily
from deepblur_live.runtime.calibration import BadFrame, Scaled, scale
from deepblur_live.runtime.executor import (
    Executor,
    TorchExecutor,
    choose_device,
    tune_process,
)
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState
from deepblur_live.runtime.pack import load_pack

if TYPE_CHECKING:
    from deepblur_live.profile import Camera, Profile

__all__ = ["DeblurPipeline", "FramePipeline", "build_pipeline"]

# A deblurred frame keeps the light of the raw one; more change than this is an error.
_FLUX_TOLERANCE = 0.05


class FramePipeline(Protocol):
    """What the worker runs on each frame."""

    def process(self, frame: Frame) -> FrameResult:
        """Return what became of a frame; a frame that cannot be deblurred is raw."""


class DeblurPipeline:
    """Identifies, tracks and deblurs a stream of frames.

    Parameters
    ----------
    family
        The rig's blurs.
    identifier, tracker, executor
        The three that do the work.
    camera
        The camera's calibration, where known.
    identify_every_s
        Least time between two identifications, in seconds of the frames' clock.
    """

    def __init__(
        self,
        family: ZernikeFamily,
        identifier: Identifier,
        tracker: Tracker,
        executor: Executor,
        camera: Camera,
        identify_every_s: float = 0.5,
    ) -> None:
        self.family, self.identifier, self.tracker = family, identifier, tracker
        self.executor, self.camera = executor, camera
        self.identify_every_s = identify_every_s
        self._geometry: tuple[object, ...] = ()
        self._identified = -np.inf
        self._track: TrackState | None = None

    def process(self, frame: Frame) -> FrameResult:
        """Return what became of a frame. Bad frames come back raw, with the reason."""
        began = time.perf_counter()
        timings: dict[str, float] = {}
        estimate: Estimate | None = None
        try:
            scaled = scale(frame.pixels)
            self._notice(frame)
            estimate = self._identify(frame, scaled)
            timings["identify"] = (time.perf_counter() - began) * 1e3
            track = self._track
            if track is None:
                return self._raw(frame, self._waiting(estimate), estimate)
            deblurred = self._deblur(scaled, track)
        except BadFrame as error:
            return self._raw(frame, str(error), estimate)
        total = (time.perf_counter() - began) * 1e3
        timings |= {"deblur": total - timings["identify"], "total": total}
        gamma = torch.as_tensor(track.coefficients, dtype=torch.float32)
        return FrameResult(
            frame,
            FrameState.DEBLURRED,
            deblurred=deblurred,
            estimate=estimate,
            track=track,
            psf=self.family.psf(gamma).numpy(),
            timings=timings,
        )

    def _raw(
        self, frame: Frame, reason: str, estimate: Estimate | None = None
    ) -> FrameResult:
        return FrameResult(frame, FrameState.RAW_ONLY, reason, estimate=estimate)

    def _waiting(self, estimate: Estimate | None) -> str:
        if estimate is None or estimate.trusted:
            return "the blur is not known yet"
        return f"the blur is not known yet: {estimate.reason}"

    def _notice(self, frame: Frame) -> None:
        """Start the average anew when the camera's geometry changes."""
        geometry = (frame.pixels.shape, frame.pixels.dtype.str)
        if geometry != self._geometry:
            self._geometry = geometry
            self.identifier.reset()
            self._identified = -np.inf

    def _identify(self, frame: Frame, scaled: Scaled) -> Estimate | None:
        self.identifier.observe(scaled.image, frame.time)
        if not self.identifier.spectrum.frames:
            # The only frame so far overflowed when squared, and was left out.
            raise BadFrame("its values are out of range")
        since = frame.time - self._identified
        # A replayed or restarted clock may run backwards: then identify at once.
        if 0 <= since < self.identify_every_s:
            return None
        self._identified = frame.time
        prediction = self.tracker.predict(frame.time)
        estimate = self.identifier.estimate(
            scaled.image,
            None if prediction is None else prediction.coefficients,
            self._noise_variance(scaled),
        )
        if estimate.trusted or self._track is not None:
            self._track = self.tracker.update(frame.time, estimate)
        return estimate

    def _noise_variance(self, scaled: Scaled) -> float | None:
        camera = self.camera
        if camera.gain_e_per_adu is None:
            return None
        return scaled.noise_variance(
            camera.offset_adu or 0.0, camera.gain_e_per_adu, camera.read_noise_e or 0.0
        )

    def _deblur(self, scaled: Scaled, track: TrackState) -> np.ndarray:
        sharp = self.executor.deblur(
            scaled.image,
            torch.as_tensor(track.coefficients, dtype=torch.float32),
            self.identifier.noise_sigma,
        )
        mean, expected = float(sharp.mean()), float(scaled.image.mean())
        # NaN fails the comparison too.
        if not abs(mean - expected) <= _FLUX_TOLERANCE * max(expected, 0.1):
            raise BadFrame("the deblurred frame failed its check of total light")
        return scaled.restore(sharp)


def build_pipeline(profile: Profile) -> DeblurPipeline:
    """Load a profile's model and build its pipeline, in the process that will run it.

    Raises
    ------
    PackError
        When the model is missing or altered, or does not serve the profile's optics.
    """
    tune_process(profile.model.threads)
    family = ZernikeFamily.from_optics(profile.optics)
    pack = load_pack(profile.model.name)
    pack.check(family)
    executor = TorchExecutor(pack, family, choose_device(profile.model.device).device)
    # The spectrum identifies any list of modes; the network only those it learned.
    known = tuple(pack.manifest.noll) == family.noll
    identifier = Identifier(
        family, executor.identify if known else None, profile.model.average_s
    )
    return DeblurPipeline(
        family,
        identifier,
        Tracker(family, averaging_s=profile.model.average_s),
        executor,
        profile.camera,
        profile.model.identify_every_s,
    )
