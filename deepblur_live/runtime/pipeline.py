"""One frame's way: scale → identify → track → deblur → check."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from deepblur_live.runtime.answers import Answers
from deepblur_live.runtime.calibration import BadFrame, Scaled, scale
from deepblur_live.runtime.checks import FrameChecks
from deepblur_live.runtime.device import has_lost_card
from deepblur_live.runtime.frame import Frame, FrameResult, FrameState, UnderWay
from deepblur_live.runtime.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deepblur_live.drift import Tracker, TrackState
    from deepblur_live.identification import Identifier, Noise
    from deepblur_live.optics import Estimate, ZernikeFamily
    from deepblur_live.profile import Camera
    from deepblur_live.runtime.executor import Executor, Server

__all__ = ["DeblurPipeline", "FramePipeline"]


class FramePipeline(Protocol):
    """What the worker runs on each frame."""

    def process(self, frame: Frame) -> FrameResult:
        """Return what became of a frame; a frame that cannot be deblurred is raw."""

    def begin(self, frame: Frame) -> UnderWay:
        """Begin with a frame, the next of which may be begun before it is finished."""


@dataclass(frozen=True)
class _Begun:
    """A frame between its beginning and its end, and all that it has on the card."""

    frame: Frame
    scaled: Scaled
    estimate: Estimate | None
    track: TrackState
    gamma: torch.Tensor
    psf: torch.Tensor
    sigma: float
    sharp: torch.Tensor
    grey: torch.Tensor
    server: Server
    wait: Callable[[], None]
    times: tuple[float, float]


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
    beside
        Whether identifications are worked out on a thread of their own, while further
        frames are deblurred: they take up to two seconds, a frame on a card 10 ms.
        An estimate then comes with a later frame than it was made of. By default on a
        card, unless each frame is to be identified for itself.

    Attributes
    ----------
    lost
        Whether the card has failed: nothing can be run in this process any more.
    """

    def __init__(
        self,
        family: ZernikeFamily,
        identifier: Identifier,
        tracker: Tracker,
        executor: Executor,
        camera: Camera,
        identify_every_s: float = 1.0,
        beside: bool | None = None,
    ) -> None:
        self.family, self.identifier, self.tracker = family, identifier, tracker
        self.executor, self.camera = executor, camera
        self.identify_every_s = identify_every_s
        beside = self.overlaps if beside is None else beside
        self._answers = Answers(identifier.answer, beside)
        self._checks, self._lanes = FrameChecks(), Lanes(executor.device)
        self._geometry: tuple[object, ...] = ()
        self._identified = self._before = -np.inf
        self._track: TrackState | None = None
        self.lost = False

    @property
    def overlaps(self) -> bool:
        """Whether something is gained when a frame is begun before the last is done.

        Nothing is where each is identified for itself, which takes longest by far.
        """
        averaged = self.identifier.spectrum.average_s > 0
        return averaged and self.executor.device.type == "cuda"

    def process(self, frame: Frame) -> FrameResult:
        """Return what became of a frame. Bad frames come back raw, with the reason."""
        return self.begin(frame).finish()

    def begin(self, frame: Frame) -> UnderWay:
        """Begin with a frame; from a card it comes later than this returns.

        The next one may be begun before this one is finished: it then goes up while
        this one is deblurred, and the one before comes down.
        """
        with self._watched():
            return self._begin(frame)

    def _begin(self, frame: Frame) -> UnderWay:
        began = time.perf_counter()
        estimate: Estimate | None = None
        try:
            with self._lanes.up():
                scaled = scale(frame.pixels, self.executor.device)
                self._notice(frame)
                estimate = self._identify(frame, scaled)
        except BadFrame as error:
            return self._at_once(self._raw(frame, str(error), estimate))
        identified = time.perf_counter()
        track, sigma = self._track, self.identifier.noise_sigma
        if track is None:
            return self._at_once(self._raw(frame, self._waiting(estimate), estimate))
        gamma = torch.as_tensor(track.coefficients, dtype=torch.float32)
        with self._lanes.deblurring():
            sharp = self.executor.deblur(scaled.image, gamma, sigma)
        with self._lanes.down():
            grey = scaled.restore(sharp)
        is_there, wait = self._lanes.landing()
        begun = _Begun(
            frame,
            scaled,
            estimate,
            track,
            gamma,
            self.family.psf(gamma),
            sigma,
            sharp,
            grey,
            self.executor.server,
            wait,
            (began, identified),
        )
        finish = partial(self._finish, begun)
        return UnderWay(finish, is_there) if self.overlaps else UnderWay(finish)

    def _finish(self, begun: _Begun) -> FrameResult:
        """Check a frame that has been deblurred, and return what became of it."""
        with self._watched():
            return self._checked(begun)

    def _checked(self, begun: _Begun) -> FrameResult:
        begun.wait()
        self._checks.next_frame()
        grey, server = begun.grey, begun.server
        with self._lanes.landed():
            fault = self._fault(begun, begun.sharp)
        if fault:
            with self._lanes.deblurring():
                second = self.executor.second_opinion(
                    begun.scaled.image, begun.gamma, begun.sigma, server
                )
            with self._lanes.down():
                if second is None or self._fault(begun, second):
                    return self._raw(begun.frame, fault, begun.estimate)
                grey = begun.scaled.restore(second)
            _, wait = self._lanes.landing()
            wait()
            # Torch makes sense of the frame: the fault was the engine's.
            self.executor.distrust(server, fault)
            server = self.executor.reference
        # Whole numbers and what is made of them fit float32; floats need not.
        if begun.frame.pixels.dtype.kind == "f" and not grey.isfinite().all():
            reason = "its deblurred values are out of range"
            return self._raw(begun.frame, reason, begun.estimate)
        began, identified = begun.times
        done = time.perf_counter()
        return FrameResult(
            begun.frame,
            FrameState.DEBLURRED,
            deblurred=grey.numpy(),
            estimate=begun.estimate,
            track=begun.track,
            psf=begun.psf.numpy(),
            timings={
                "identify": (identified - began) * 1e3,
                "deblur": (done - identified) * 1e3,
                "total": (done - began) * 1e3,
            },
            notes=tuple(self.executor.take_notes()),
            executor=server.description,
        )

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Notice when the card fails, which any call may tell."""
        try:
            yield
        except RuntimeError as error:
            if has_lost_card(error) and not self.lost:
                self.lost = True
                self.executor.card_failed()
            raise

    def _fault(self, begun: _Begun, sharp: torch.Tensor) -> str:
        image = begun.scaled.image
        return self._checks.fault(image, sharp, begun.psf, begun.sigma)

    def _at_once(self, result: FrameResult) -> UnderWay:
        return UnderWay(lambda: result)

    def close(self) -> None:
        """End what goes on in the background."""
        self._answers.close()
        self.executor.close()

    def _raw(
        self, frame: Frame, reason: str, estimate: Estimate | None = None
    ) -> FrameResult:
        notes = tuple(self.executor.take_notes())
        return FrameResult(
            frame, FrameState.RAW_ONLY, reason, estimate=estimate, notes=notes
        )

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
            self._answers.forget()
            self._identified = -np.inf

    def _identify(self, frame: Frame, scaled: Scaled) -> Estimate | None:
        self.identifier.observe(scaled.image, frame.time)
        if not self.identifier.spectrum.frames:
            # The only frame so far overflowed when squared, and was left out.
            raise BadFrame("its values are out of range")
        every = self.identify_every_s
        # A replayed or restarted clock may run backwards: then identify at once.
        due = not 0 <= frame.time - self._identified < every
        gap, self._before = frame.time - self._before, frame.time
        # A recording may be faster than its clock: what is overdue is waited for.
        estimate = self._take(wait=due)
        # An accepted refusal has just forgotten all frames.
        if due and self.identifier.spectrum.frames:
            self._identified = frame.time
            self._ask(frame.time, scaled)
            # There is time to wait while nothing is known, and between slow frames.
            slow = self._track is None or not 0 <= gap < every
            newer = self._take(wait=slow)
            estimate = estimate if newer is None else newer
        return estimate

    def _ask(self, time: float, scaled: Scaled) -> None:
        prediction = self.tracker.predict(time)
        question = self.identifier.ask(
            scaled.image,
            None if prediction is None else prediction.coefficients,
            self._noise(scaled),
        )
        self._answers.ask(time, question)

    def _take(self, wait: bool) -> Estimate | None:
        """Return an estimate that has been worked out, and follow it."""
        taken = self._answers.take(wait)
        if taken is None:
            return None
        asked, answer = taken
        estimate = self.identifier.accept(answer)
        if estimate is None:
            # It was of what has gone: what is there now is asked with the next frame.
            self._identified = -np.inf
        elif estimate.trusted or self._track is not None:
            self._track = self.tracker.update(asked, estimate)
        return estimate

    def _noise(self, scaled: Scaled) -> Noise | None:
        camera = self.camera
        if camera.gain_e_per_adu is None:
            return None
        return partial(
            scaled.noise_variance,
            camera.offset_adu or 0.0,
            camera.gain_e_per_adu,
            camera.read_noise_e or 0.0,
        )
