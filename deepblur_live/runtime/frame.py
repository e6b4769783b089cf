"""What crosses the seams: a frame as the camera gave it, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from deepblur_live.drift.tracker import TrackState
    from deepblur_live.optics.estimate import Estimate

__all__ = ["Frame", "FrameResult", "FrameState", "UnderWay"]


class FrameState(StrEnum):
    """What became of a frame."""

    DEBLURRED = "deblurred"
    RAW_ONLY = "raw-only"


@dataclass(frozen=True)
class Frame:
    """One frame as its source gave it.

    Parameters
    ----------
    pixels
        The array as it came: usually (H, W), any dtype. Never modified.
    number
        Counts the frames captured by one listener or source, from 0.
    time
        Seconds since the session began, of the capture.
    source
        ``"mda"``, ``"live"``, ``"replay"`` …
    metadata
        Small and picklable. ``"truth"`` holds the true coefficients where they are
        known (a simulated camera), ``"exposure_ms"`` the exposure.
    """

    pixels: NDArray[Any]
    number: int
    time: float
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameResult:
    """What the pipeline made of a frame.

    Parameters
    ----------
    frame
        The frame itself, raw pixels untouched.
    state, reason
        ``RAW_ONLY`` frames were passed on as they came; `reason` names why (``"not a
        number"``, ``"constant"``, ``"saturated"`` …), and is empty otherwise.
    deblurred
        (H, W) float32 in the raw frame's units, or None when raw only.
    estimate
        The identification that this frame came with, or None: made of the frames up to
        ``track.time``, which is this one unless they are identified beside the frames.
    track
        The tracked coefficients this frame was deblurred with, or None.
    psf
        (K, K) float32 PSF of the tracked coefficients, sum 1, or None.
    timings
        Milliseconds a stage: ``"identify"``, ``"deblur"``, ``"total"`` …
    notes
        What the user should know beside the frame: an engine that was left, and why.
    executor
        What ran the networks, in words; empty for a frame that they did not see.
    """

    frame: Frame
    state: FrameState
    reason: str = ""
    deblurred: NDArray[np.float32] | None = None
    estimate: Estimate | None = None
    track: TrackState | None = None
    psf: NDArray[np.float32] | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    executor: str = ""


@dataclass(frozen=True)
class UnderWay:
    """A frame that a pipeline has begun with.

    Parameters
    ----------
    finish
        Waits for the frame and returns what became of it. To be called once, frames in
        the order in which they were begun.
    is_there
        Whether `finish` has nothing to wait for.
    """

    finish: Callable[[], FrameResult]
    is_there: Callable[[], bool] = lambda: True
