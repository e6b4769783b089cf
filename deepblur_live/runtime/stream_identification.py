"""When the blur of a stream is identified, on which thread, and its track."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.identification.whole_frame import WholeFrameSpectrum
from deepblur_live.runtime.async_estimator import AsyncEstimator, EstimatorThread
from deepblur_live.runtime.calibration import BadFrame, Scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deepblur_live.blur import Estimate
    from deepblur_live.drift import Gaussian, Tracker, TrackState
    from deepblur_live.identification import Identifier, Noise
    from deepblur_live.optics.reduced_spectrum import ReducedSpectrum
    from deepblur_live.profile import Camera
    from deepblur_live.runtime.frame import Frame

__all__ = ["StreamIdentification"]

# Sources of frames that come one after another in real time.
_STREAMS = ("live", "mda")


class StreamIdentification:
    """Identifies the blur of a stream of frames when it is due, and tracks it.

    Parameters
    ----------
    identifier, tracker
        The identifier and the tracker that are used.
    camera
        The camera's calibration, where known.
    every_s
        Minimum time between two identifications, in seconds of the frames' clock.
    on_card
        Whether frames are deblurred on a card.
    asynchronous, thread
        As in `deepblur_live.runtime.pipeline.DeblurPipeline`.
    """

    def __init__(
        self,
        identifier: Identifier,
        tracker: Tracker,
        camera: Camera,
        every_s: float,
        on_card: bool,
        asynchronous: bool | None = None,
        thread: EstimatorThread | None = None,
    ) -> None:
        self.identifier, self.tracker, self.camera = identifier, tracker, camera
        self.every_s, self._on_card = every_s, on_card
        self._asynchronous = asynchronous
        self._shared = thread is not None
        self.estimator = AsyncEstimator(
            identifier.solve, thread or EstimatorThread(on_card)
        )
        self.track: TrackState | None = None
        self.processed = ""
        """Why the last identified frames are not raw frames of a camera, or empty."""
        self.identified = -np.inf
        """Time of the last identification, on the frames' clock."""
        self._before = self._reduced = -np.inf
        self._held_up = 0.0
        self._whole = WholeFrameSpectrum()
        self._known: Gaussian | None = None

    @property
    def overlaps(self) -> bool:
        """Whether it helps to submit a frame before the last one is done.

        Not if each frame is identified separately, which takes by far the longest.
        """
        return self._averaged and self._on_card

    @property
    def _averaged(self) -> bool:
        """Whether a frame is identified together with those before it."""
        return self.identifier.spectrum.average_s > 0

    def _in_background(self, frame: Frame) -> bool:
        """Whether the blur is identified while further frames are deblurred."""
        if self._asynchronous is not None:
            return self._asynchronous
        return self.overlaps or (self._averaged and frame.source in _STREAMS)

    @contextmanager
    def beside(self, frame: Frame) -> Iterator[None]:
        """Pause the identification in the background while a frame is computed."""
        background = self._in_background(frame)
        if background:
            self.estimator.begin_frame()
        try:
            yield
        finally:
            if background:
                self.estimator.end_frame()

    def reset(self) -> None:
        """Forget the frames so far, but not the track."""
        self.identifier.reset()
        self.estimator.cancel()
        self.identified = -np.inf
        self.processed = ""

    def close(self) -> None:
        """End all background work, unless the thread is shared."""
        if self._shared:
            self.estimator.cancel()
        else:
            self.estimator.close()

    def announce(self, known: Gaussian) -> None:
        """Let the track start from a known blur with the first frame of its time."""
        self._known = known

    def take_known(self, now: float) -> bool:
        """Start the track from an announced blur if it is time, and return whether."""
        known = self._known
        if known is None or now < known.time:
            return False
        self._known = None
        self.track = self.tracker.start_from(known)
        return True

    def reduce(self, frame: Frame, scaled: Scaled) -> ReducedSpectrum | None:
        """Return the frame's spectrum, as often as the blur is identified."""
        if 0 <= frame.time - self._reduced < self.every_s:
            return None
        self._reduced = frame.time
        # The scaling of a frame follows its own brightness.
        spectrum = self._whole.reduce(scaled.image).times(scaled.span)
        return spectrum if np.isfinite(spectrum.power).all() else None

    def identify(self, frame: Frame, scaled: Scaled, observe: bool) -> Estimate | None:
        """Return an estimate if one is available, and update the track with it.

        Parameters
        ----------
        frame, scaled
            The frame.
        observe
            Whether its spectrum enters the average.

        Raises
        ------
        BadFrame
            It is the only frame so far and cannot be used.
        """
        if observe or not self.identifier.spectrum.frames:
            self.identifier.observe(scaled.image, frame.time)
        if not self.identifier.spectrum.frames:
            # The only frame so far overflowed when squared, and was left out.
            raise BadFrame("its values are out of range")
        # The clock of a replay or after a restart may run backwards: identify at once.
        due = observe and not 0 <= frame.time - self.identified < self.every_s
        gap, self._before = frame.time - self._before, frame.time
        stream, background = frame.source in _STREAMS, self._in_background(frame)
        # A recording may be faster than its clock: wait for an overdue identification.
        # A picture of a camera never waits for one.
        estimate = self._take(wait=due and not stream)
        # An accepted estimate that is not trusted may have reset the average.
        if due and not self.estimator.busy and self.identifier.spectrum.frames:
            self.identified = frame.time
            # Wait for the first identification (there may be only one frame), between
            # frames that come slowly, and in a recording while the blur is unknown. A
            # gap caused by the last wait does not count as slow.
            slow = gap < 0 or gap - self._held_up >= self.every_s
            unknown = self.track is None and not stream
            wait = not background or slow or unknown
            began = time.perf_counter()
            # The thread computes more slowly: do not use it if the result is awaited.
            soon = background and frame.source == "live"
            self._start(frame.time, scaled, not wait, soon)
            newer = self._take(wait)
            self._held_up = time.perf_counter() - began
            estimate = estimate if newer is None else newer
        return estimate

    def why_unknown(self, estimate: Estimate | None) -> str:
        """Return why there is no track after a frame's estimate, for the user."""
        reason = "the blur is not known yet"
        if estimate is not None and not estimate.trusted:
            return f"{reason}: {estimate.reason}"
        return f"{reason}: it is being identified" if self.estimator.busy else reason

    def noise(self, scaled: Scaled) -> Noise | None:
        """Return the noise of a scaled frame by the camera's calibration, if known."""
        camera = self.camera
        if camera.gain_e_per_adu is None:
            return None
        return partial(
            scaled.noise_variance,
            camera.offset_adu or 0.0,
            camera.gain_e_per_adu,
            camera.read_noise_e or 0.0,
        )

    def _start(self, time: float, scaled: Scaled, background: bool, soon: bool) -> None:
        prediction = self.tracker.predict(time)
        problem = self.identifier.prepare(
            scaled.image,
            None if prediction is None else prediction.coefficients,
            self.noise(scaled),
        )
        if soon and prediction is None:
            # In live view, an approximate blur soon is better than raw frames.
            problem = problem.simpler
        self.estimator.start(time, problem, background)

    def _take(self, wait: bool) -> Estimate | None:
        """Return an estimate that has become available, and update the track."""
        taken = self.estimator.take(wait)
        if taken is None:
            return None
        posed, solution = taken
        estimate = self.identifier.accept(solution)
        if estimate is None:
            # The blur has changed since: identify again with the next frame.
            self.identified = -np.inf
            return None
        self.processed = estimate.reason if solution.processed else ""
        if estimate.trusted or self.track is not None:
            since = self.identifier.spectrum.began
            self.track = self.tracker.update(posed, estimate, since)
        if estimate.provisional:
            self.identified = -np.inf
        return estimate
