"""The types that cross the seams: a frame, its outcome, and what processes frames."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.blur.estimate import Estimate
    from deepblur_live.blur.field_basis import FieldView
    from deepblur_live.drift import Gaussian, TrackState
    from deepblur_live.optics.reduced_spectrum import ReducedSpectrum

__all__ = [
    "DeviceLost",
    "Frame",
    "FrameFuture",
    "FrameInfo",
    "FramePipeline",
    "FrameResult",
    "FrameState",
    "Outcome",
    "SynchronousPipeline",
]


class FrameState(StrEnum):
    """Whether a frame was deblurred."""

    DEBLURRED = "deblurred"
    RAW_ONLY = "raw-only"


class DeviceLost(RuntimeError):
    """The device has failed: nothing can be computed in this process any more."""


@dataclass(frozen=True)
class FrameInfo:
    """Everything known about a frame except its pixels.

    Parameters
    ----------
    number
        Counts the frames captured by one listener or source, from 0.
    time
        Seconds from the beginning of the session to the capture.
    source
        ``"mda"``, ``"live"``, ``"replay"`` …
    metadata
        Small and picklable. ``"truth"`` holds the true coefficients where they are
        known (a simulated camera), ``"exposure_ms"`` the exposure.
    dtype, shape
        ``dtype.str`` (byte order included) and shape of the pixels.
    """

    number: int
    time: float
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Frame:
    """One frame as delivered by its source.

    Parameters
    ----------
    pixels
        The array of the source: usually (H, W), any dtype. Never modified.
    number, time, source, metadata
        As in `FrameInfo`.
    """

    pixels: NDArray[Any]
    number: int
    time: float
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def info(self) -> FrameInfo:
        """Everything but the pixels."""
        return FrameInfo(
            self.number,
            self.time,
            self.source,
            self.metadata,
            self.pixels.dtype.str,
            self.pixels.shape,
        )


@dataclass(frozen=True)
class Outcome:
    """The outcome of a frame, without any full-frame array.

    Parameters
    ----------
    info
        The frame.
    state, reason
        ``RAW_ONLY`` frames are passed on unchanged; `reason` says why (``"not
        finite"``, ``"constant"``, ``"saturated"`` …). It is empty for frames that are
        deblurred at full strength, or nearly.
    strength
        Share of the deblurred image in a ``DEBLURRED`` frame; the rest is the frame
        itself, and `reason` says why if it is below three quarters.
    averaged
        Number of frames of a still specimen in the deblurred image.
    estimate
        The identification that became available with this frame, or None. It was made
        from the frames up to ``track.time``: this one, or an earlier one where
        identification is asynchronous.
    track
        The tracked coefficients with which this frame was deblurred, or None.
    psf
        (K, K) float32 PSF of the tracked coefficients, sum 1, or None.
    timings
        Milliseconds per stage: ``"identify"``, ``"deblur"``, ``"total"`` …
    notes
        Messages to the user, such as about an engine that was abandoned, and why.
    executor
        The executor that ran the networks; empty where they did not run.
    spectrum
        The frame's reduced spectrum, in its grey values squared, as often as the blur
        is identified; None for frames between.
    view
        The part of the sensor that the frame shows, where its blur is identified as a
        field; None for one PSF.
    """

    info: FrameInfo
    state: FrameState
    reason: str = ""
    estimate: Estimate | None = None
    track: TrackState | None = None
    psf: NDArray[np.float32] | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    executor: str = ""
    spectrum: ReducedSpectrum | None = None
    strength: float = 1.0
    averaged: int = 1
    view: FieldView | None = None


@dataclass(frozen=True, kw_only=True)
class FrameResult(Outcome):
    """The outcome of a frame together with its pixels.

    Parameters
    ----------
    raw
        The frame's pixels, unchanged.
    deblurred
        (H, W) float32 in the raw frame's units, or None when raw only.
    """

    raw: NDArray[Any]
    deblurred: NDArray[np.float32] | None = None

    @property
    def frame(self) -> Frame:
        """The frame itself."""
        info = self.info
        return Frame(self.raw, info.number, info.time, info.source, info.metadata)

    @property
    def outcome(self) -> Outcome:
        """Everything but the pixels."""
        return Outcome(**{f.name: getattr(self, f.name) for f in fields(Outcome)})


class FrameFuture(Protocol):
    """The result of a submitted frame; `concurrent.futures.Future` is one."""

    def done(self) -> bool:
        """Return whether `result` returns at once."""

    def result(self) -> FrameResult:
        """Wait for the frame and return its result, or raise its error."""


class FramePipeline(Protocol):
    """Deblurs frames, in a worker or elsewhere."""

    def submit(self, frame: Frame) -> FrameFuture:
        """Start on a frame; results must be collected in the order of submission.

        The frame's pixels are valid until its result has been collected; a pipeline
        that needs them for longer copies them. A pipeline that overlaps frames returns
        a future that is not done, and is then given the next frame before its result is
        collected.

        Raises
        ------
        DeviceLost
            Here or from the future: the process can compute nothing more and must be
            replaced. Any other error concerns only this frame.
        """

    def start_from(self, known: Gaussian) -> None:
        """Continue from coefficients measured by other means, such as a focus sweep.

        From the first frame that is captured at ``known.time`` or later.
        """

    def close(self) -> None:
        """End all background work."""


class SynchronousPipeline:
    """Base of pipelines that finish each frame before they take the next."""

    def process(self, frame: Frame) -> FrameResult:
        """Return the result of a frame."""
        raise NotImplementedError

    def submit(self, frame: Frame) -> FrameFuture:
        """Process a frame and return its finished future."""
        future: Future[FrameResult] = Future()
        future.set_result(self.process(frame))
        return future

    def start_from(self, known: Gaussian) -> None:
        """Do nothing: frames are not tracked."""

    def close(self) -> None:
        """Do nothing: nothing runs in the background."""
