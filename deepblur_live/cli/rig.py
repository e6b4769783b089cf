"""A rig that runs: a camera or nothing, the listener with its worker, the session."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, Self

from deepblur_live.acquisition import DeblurListener
from deepblur_live.optics import ZernikeFamily
from deepblur_live.session import LiveSession
from deepblur_live.session.core_moves import follow_core

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray
    from pymmcore_plus import CMMCorePlus

    from deepblur_live.profile import Profile
    from deepblur_live.session import SessionSummary
    from deepblur_live.session.sinks import AlertSink

    TruthImage = Callable[[Mapping[str, Any]], NDArray[Any] | None]

__all__ = ["Rig", "pipeline_factory"]

_START_S = 60.0
# What is in flight comes back within the first, and the first frame of all within the
# second: a blur that nothing is known of takes longest.
_DRAIN_S, _FIRST_S, _TICK_S = 5.0, 20.0, 0.25


def pipeline_factory(profile: Profile) -> Callable[[], Any]:
    """Return what the worker process calls to make its pipeline."""
    from deepblur_live.runtime.build import build_pipeline

    return functools.partial(build_pipeline, profile)


def _nothing() -> None:
    """Do nothing."""


class Rig:
    """Owns the listener and the session; a context manager.

    Entering starts the worker and attaches the listener. Leaving, for whatever reason,
    stops a live mode, lets what is in flight come back, and writes the session: then
    :attr:`summary` is there.

    Parameters
    ----------
    profile
        The rig's settings.
    folder
        Where sessions are kept; each makes a folder of its own in it.
    core
        The microscope; None for a recording.
    every_frame
        Process every frame, as a recording wants, instead of the newest.
    in_process
        Run the pipeline on a thread instead of a process of its own.
    truth_image
        From a frame's metadata to its sharp image, where that is known.
    sinks
        Where alarms go beside the screen.
    """

    def __init__(
        self,
        profile: Profile,
        folder: Path,
        *,
        core: CMMCorePlus | None = None,
        every_frame: bool = False,
        in_process: bool = False,
        truth_image: TruthImage | None = None,
        sinks: Sequence[AlertSink] = (),
    ) -> None:
        self.profile = profile
        self.core = core
        self.family = ZernikeFamily.from_optics(profile.optics)
        self.listener = DeblurListener(
            pipeline_factory(profile),
            policy="all" if every_frame else "newest",
            in_process=in_process,
        )
        self._folder = folder
        self._truth_image = truth_image
        self._sinks = sinks
        self._unfollow: Callable[[], None] = _nothing
        self.session: LiveSession
        self.summary: SessionSummary | None = None

    def __enter__(self) -> Self:
        """Start worker and session, then let frames in.

        Raises
        ------
        RuntimeError
            The pipeline cannot be made; the text says why.
        """
        try:
            if not self.listener.start(timeout=_START_S):
                slow = f"the worker is not ready after {_START_S:.0f} s"
                # The first says why; its first line without the worker's traceback.
                first = next(iter(self.listener.background_errors), slow)
                # A listener would go on with raw frames; a run ends.
                raise RuntimeError(first.splitlines()[0].partition("; frames are")[0])
            self.session = LiveSession(
                self.profile,
                self.family,
                self.listener,
                self._folder,
                truth_image=self._truth_image,
                sinks=self._sinks,
            )
            if self.core is not None:
                self.listener.attach(self.core)
                self._unfollow = follow_core(self.core, self.session.specimen.tell)
        except BaseException:
            self.listener.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the camera, empty the pipeline, end the worker, write the session."""
        try:
            self._unfollow()
            if self.core is not None:
                if self.core.isSequenceRunning():
                    self.core.stopSequenceAcquisition()
                self.listener.detach()
            self.listener.drain(_DRAIN_S)
            until = time.monotonic() + _FIRST_S
            while error is None and self.listener.latest is None:
                if self.listener.drain(_TICK_S) or time.monotonic() > until:
                    break
        finally:
            try:
                # What has not come back counts as dropped before the session counts.
                self.listener.close()
            finally:
                self.summary = self.session.close()
