"""The path of one frame: scale → identify → track → deblur → check."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from deepblur_live.blur.one_psf import of_mean
from deepblur_live.runtime.calibration import BadFrame, Scaled, scale
from deepblur_live.runtime.cuda_streams import CudaStreams
from deepblur_live.runtime.device import (
    has_lost_card,
    is_out_of_memory,
    may_be_a_kernels_fault,
)
from deepblur_live.runtime.frame import (
    DeviceLost,
    Frame,
    FrameFuture,
    FrameResult,
    FrameState,
)
from deepblur_live.runtime.frame_average import FrameAverage
from deepblur_live.runtime.graph import return_memory
from deepblur_live.runtime.guard import FrameGuard
from deepblur_live.runtime.inspection import FrameInspector
from deepblur_live.runtime.stream_identification import StreamIdentification

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, Estimate
    from deepblur_live.drift import Gaussian, Tracker, TrackState
    from deepblur_live.identification import Identifier
    from deepblur_live.optics import NoiseModel
    from deepblur_live.optics.reduced_spectrum import ReducedSpectrum
    from deepblur_live.profile import Camera
    from deepblur_live.runtime.async_estimator import EstimatorThread
    from deepblur_live.runtime.best import BestExecutor
    from deepblur_live.runtime.executor import TorchExecutor
    from deepblur_live.runtime.guard import Measured, Verdict

    # Yields the event of a frame's download, if others may be submitted meanwhile.
    Steps = Generator[Any, None, FrameResult]

__all__ = ["DeblurPipeline"]


class _Blur(NamedTuple):
    """The blur that frames are deblurred with until the next identification.

    Parameters
    ----------
    track
        It is of this track.
    gamma, uncertainty
        γ (P,) and its covariance (P, P), on the CPU; see `of_mean`.
    refusal
        Why no frame may be deblurred with it, or "".
    strength
        Largest share of the result that may be shown.
    psf
        (K, K), for the window.
    """

    track: TrackState
    gamma: torch.Tensor
    uncertainty: torch.Tensor
    refusal: str
    strength: float
    psf: NDArray[np.float32]


class _Deblurred(NamedTuple):
    """A deblurred frame that is being downloaded.

    Parameters
    ----------
    grey
        (H, W) what is shown of it, in grey values, on the CPU.
    measured
        What it is judged by.
    kept
        Tensors on the device that must live until then.
    """

    grey: torch.Tensor
    measured: Measured
    kept: tuple[torch.Tensor, ...]


class DeblurPipeline:
    """Identifies, tracks and deblurs a stream of frames.

    Parameters
    ----------
    family
        The rig's blurs.
    identifier, tracker, executor
        What does the work.
    camera
        The camera's calibration, where known.
    identify_every_s
        Minimum time between two identifications, in seconds of the frames' clock.
    asynchronous
        Whether identifications run on a thread of their own while further frames are
        deblurred: they take up to two seconds, a frame 10 to 200 ms. An estimate then
        comes with a later frame than those it was made from. By default on a card, and
        on a CPU for a camera's frames: the results of a recording do not depend on
        the time it takes. Never where each frame is identified by itself.
    average_frames
        Largest number of frames of a still specimen that are averaged before they are
        deblurred.
    thread
        Where identifications run, if other pipelines use it too. It and the executor
        are then theirs as well, and `close` leaves them running.
    """

    def __init__(
        self,
        family: BlurFamily,
        identifier: Identifier,
        tracker: Tracker,
        executor: BestExecutor,
        camera: Camera,
        identify_every_s: float = 1.0,
        asynchronous: bool | None = None,
        average_frames: int = 1,
        thread: EstimatorThread | None = None,
    ) -> None:
        self.family, self.identifier, self.tracker = family, identifier, tracker
        self.executor, self.camera = executor, camera
        self._identification = StreamIdentification(
            identifier,
            tracker,
            camera,
            identify_every_s,
            executor.device.type == "cuda",
            asynchronous,
            thread,
        )
        self._shared = thread is not None
        self._guard = FrameGuard(family)
        self._average = FrameAverage(average_frames)
        self._inspector = FrameInspector(
            camera, family.cutoff, executor.device, identify_every_s
        )
        self._streams = CudaStreams(executor.device)
        self._geometry: tuple[object, ...] = ()
        self._blur: _Blur | None = None
        self._device_lost = False

    def submit(self, frame: Frame) -> FrameFuture:
        """Start on a frame; on a card its result comes later than this returns.

        If the next frame is submitted before this result is collected, it is uploaded
        while this one is deblurred and the one before is downloaded. A frame that
        cannot be deblurred comes back raw, with the reason.

        Raises
        ------
        DeviceLost
            As in `deepblur_live.runtime.frame.FramePipeline`.
        """
        steps = self._steps(frame)
        try:
            downloaded = next(steps)
        except StopIteration as end:
            future: Future[FrameResult] = Future()
            future.set_result(end.value)
            return future
        return _OnDevice(steps, downloaded)

    def start_from(self, known: Gaussian) -> None:
        """As in `deepblur_live.runtime.frame.FramePipeline`."""
        self._identification.announce(known)

    def identify_alone(self, pixels: NDArray[Any]) -> Estimate:
        """Return the blur of one frame (H, W) by itself, without a prediction.

        Frames before it are forgotten. For a pipeline that processes no stream.

        Raises
        ------
        BadFrame
            The frame cannot be used; the text says why.
        """
        scaled = scale(pixels, self.executor.device, self.family.cutoff)
        self.identifier.reset()
        self.identifier.observe(scaled.image, 0.0)
        if not self.identifier.spectrum.frames:
            raise BadFrame("its values are out of range")
        return self.identifier.estimate(
            scaled.image, None, self._identification.noise(scaled)
        )

    def close(self) -> None:
        """End what runs in the background, unless it is shared."""
        self._identification.close()
        if not self._shared:
            self.executor.close()

    def _steps(self, frame: Frame) -> Steps:
        """Process a frame; raise `DeviceLost` if the device fails meanwhile."""
        try:
            with self._identification.beside(frame):
                return (yield from self._process(frame))
        except RuntimeError as error:
            if is_out_of_memory(error):
                reason = _out_of_memory(frame)
            elif not has_lost_card(error):
                raise
            else:
                if not self._device_lost:
                    self._device_lost = True
                    if may_be_a_kernels_fault(error):
                        self.executor.card_failed()
                raise DeviceLost(str(error)) from error
        return_memory(self.executor.device)
        return self._raw(frame, reason, None, None)

    def _process(self, frame: Frame) -> Steps:
        began = time.perf_counter()
        estimate: Estimate | None = None
        spectrum: ReducedSpectrum | None = None
        try:
            with self._streams.upload():
                scaled, inspect = self._inspector.scale(frame)
                self._reset_if_geometry_changed(frame)
                if self._identification.take_known(frame.time):
                    # The frames so far may have been taken at another focus.
                    self._reset()
                if inspect:
                    spectrum = self._reduce(frame, scaled)
                    sigma = self.identifier.noise_sigma
                    self._inspector.inspect(frame, scaled, sigma)
                self._inspector.refuse()
                estimate = self._identify(frame, scaled, inspect)
        except BadFrame as error:
            return self._raw(frame, str(error), estimate, spectrum)
        identified = time.perf_counter()
        track, sigma = self._identification.track, self.identifier.noise_sigma
        if track is None:
            reason = self._identification.why_unknown(estimate)
            return self._raw(frame, reason, estimate, spectrum)
        blur = self._blur_of(track)
        if refusal := self._identification.processed or blur.refusal:
            return self._raw(frame, refusal, estimate, spectrum)
        with self._streams.upload():
            noise = self._inspector.noise(frame, scaled, sigma)
            scaled, share, averaged = self._average.add(scaled, noise)
            if averaged > 1:
                noise = noise.times(share)
        result, verdict, backend = yield from self._judged(scaled, blur, noise)
        if verdict.strength == 0:
            return self._raw(frame, verdict.reason, estimate, spectrum)
        grey = result.grey
        # Integers and what is made of them fit float32; floats need not.
        if frame.pixels.dtype.kind == "f" and not grey.isfinite().all():
            return self._raw(
                frame, "its deblurred values are out of range", estimate, spectrum
            )
        done = time.perf_counter()
        return FrameResult(
            frame.info,
            FrameState.DEBLURRED,
            verdict.reason,
            estimate=estimate,
            track=track,
            psf=blur.psf,
            timings={
                "identify": (identified - began) * 1e3,
                "deblur": (done - identified) * 1e3,
                "total": (done - began) * 1e3,
            },
            notes=self._take_notes(),
            executor=backend.description,
            spectrum=spectrum,
            strength=verdict.strength,
            averaged=averaged,
            raw=frame.pixels,
            deblurred=grey.numpy(),
        )

    def _blur_of(self, track: TrackState) -> _Blur:
        """Return the blur of a track, computed once for each track."""
        if self._blur is None or self._blur.track is not track:
            gamma = torch.as_tensor(track.coefficients, dtype=torch.float32)
            covariance = of_mean(self.family, track.coefficients, track.covariance)
            uncertainty = torch.as_tensor(covariance, dtype=torch.float32)
            self._blur = _Blur(
                track,
                gamma,
                uncertainty,
                self._guard.refusal(uncertainty),
                self._guard.strength(uncertainty),
                self.family.psf(gamma).numpy(),
            )
        return self._blur

    def _judged(
        self, scaled: Scaled, blur: _Blur, noise: NoiseModel
    ) -> Generator[Any, None, tuple[_Deblurred, Verdict, TorchExecutor]]:
        """Deblur and judge a frame; in torch again where an engine's result is refused.

        Yields as `Steps`. Returns the result, the verdict on it, and what deblurred it.
        """
        result = self._deblur(self.executor, scaled, blur, noise)
        downloaded, backend = self._streams.downloaded(), self.executor.backend
        if downloaded is not None:
            if self._identification.overlaps:
                yield downloaded
            downloaded.synchronize()
        verdict = self._guard.judge(result.measured, blur.uncertainty)
        reference = self.executor.reference
        if verdict.strength > 0 or backend is reference:
            return result, verdict, backend
        again = self._deblur(reference, scaled, blur, noise)
        if downloaded is not None:
            self._streams.downloaded().synchronize()
        second = self._guard.judge(again.measured, blur.uncertainty)
        if second.strength == 0:
            return result, verdict, backend
        # Torch can deblur the frame: the fault was the engine's.
        self.executor.distrust(backend, verdict.reason)
        return again, second, reference

    def _deblur(
        self,
        executor: BestExecutor | TorchExecutor,
        scaled: Scaled,
        blur: _Blur,
        noise: NoiseModel,
    ) -> _Deblurred:
        """Queue the deblurring of a frame, what it is judged by, and the download."""
        image, gamma = scaled.image, blur.gamma
        with self._streams.compute():
            sharp = executor.deblur(image, gamma, blur.uncertainty, noise)
            shown = _mixed(image, sharp, blur.strength)
        with self._streams.download():
            grey = scaled.restore(shown)
            measured = self._guard.measure(image, sharp, gamma, noise)
        return _Deblurred(grey, measured, (image, sharp, shown))

    def _raw(
        self,
        frame: Frame,
        reason: str,
        estimate: Estimate | None,
        spectrum: ReducedSpectrum | None,
    ) -> FrameResult:
        return FrameResult(
            frame.info,
            FrameState.RAW_ONLY,
            reason,
            estimate=estimate,
            notes=self._take_notes(),
            spectrum=spectrum,
            strength=0.0,
            raw=frame.pixels,
        )

    def _take_notes(self) -> tuple[str, ...]:
        return (*self.executor.take_notes(), *self.identifier.take_notes())

    def _reset_if_geometry_changed(self, frame: Frame) -> None:
        geometry = (frame.pixels.shape, frame.pixels.dtype.str)
        if geometry != self._geometry:
            self._geometry = geometry
            self._reset()

    def _reset(self) -> None:
        self._identification.reset()
        self._inspector.reset()
        self._average.reset()

    def _reduce(self, frame: Frame, scaled: Scaled) -> ReducedSpectrum | None:
        return self._identification.reduce(frame, scaled)

    def _identify(self, frame: Frame, scaled: Scaled, observe: bool) -> Estimate | None:
        return self._identification.identify(frame, scaled, observe)


def _mixed(image: torch.Tensor, sharp: torch.Tensor, strength: float) -> torch.Tensor:
    """Return the mixture of a frame and its deblurred image that is shown."""
    return sharp if strength == 1 else torch.lerp(image, sharp, strength)


def _out_of_memory(frame: Frame) -> str:
    size = " × ".join(map(str, frame.pixels.shape))
    return (
        f"the card has no memory left for frames of {size}: close other programs that "
        'use it, or set model.device = "cpu"'
    )


class _OnDevice:
    """The future of a frame on a card, which is checked when it is collected."""

    def __init__(self, steps: Steps, downloaded: Any) -> None:
        self._steps, self._downloaded = steps, downloaded
        self._result: FrameResult | None = None

    def done(self) -> bool:
        downloaded: bool = self._downloaded.query()
        return downloaded

    def result(self) -> FrameResult:
        if self._result is None:
            try:
                next(self._steps)
            except StopIteration as end:
                self._result = end.value
        assert self._result is not None, "the steps after the download are the last"
        return self._result
