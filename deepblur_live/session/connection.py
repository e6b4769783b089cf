"""The listener of a session made from a profile, started and attached to a core."""

from __future__ import annotations

import functools
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from deepblur_live.acquisition.listener import DeblurListener
from deepblur_live.session.core_changes import follow_core

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymmcore_plus import CMMCorePlus

    from deepblur_live.profile import Profile

__all__ = ["Connection", "pipeline_factory"]

_START_S = 60.0
# Longest wait for frames in flight; and for the very first frame, which is identified
# without prior knowledge.
_DRAIN_S, _FIRST_S, _TICK_S = 5.0, 20.0, 0.25


def pipeline_factory(profile: Profile) -> Callable[[], Any]:
    """Return the function with which the worker process builds its pipeline."""
    from deepblur_live.runtime.build import build_series_pipeline

    return functools.partial(build_series_pipeline, profile)


class Connection:
    """Starts a listener with its worker; attaches it to a core; ends both.

    Parameters
    ----------
    profile
        Describes the pipeline.
    every_frame
        Process every frame, as for a recording, instead of the newest.
    in_process
        Run the pipeline on a thread instead of in a process.

    Raises
    ------
    RuntimeError
        The pipeline cannot be built; the message says why.
    """

    def __init__(
        self, profile: Profile, *, every_frame: bool = False, in_process: bool = False
    ) -> None:
        self.core: CMMCorePlus | None = None
        self._unfollow: Callable[[], None] | None = None
        self.listener = DeblurListener(
            pipeline_factory(profile),
            policy="all" if every_frame else "newest",
            in_process=in_process,
        )
        try:
            if not self.listener.start(timeout=_START_S):
                slow = f"the worker is not ready after {_START_S:.0f} s"
                # The worker's traceback follows the first line of its error.
                first = next(iter(self.listener.background_errors), slow)
                raise RuntimeError(first.splitlines()[0].partition("; frames are")[0])
        except BaseException:
            self.listener.close()
            raise

    def attach(
        self, core: CMMCorePlus, specimen_changed: Callable[[str], None]
    ) -> None:
        """Process a core's frames; call `specimen_changed` when it reports a change."""
        self.core = core
        self.listener.attach(core)
        self._unfollow = follow_core(core, specimen_changed)

    def close(self, *, wait_for_first: bool) -> None:
        """Stop live mode, wait for the frames in flight, and end the worker.

        Parameters
        ----------
        wait_for_first
            Whether to wait longer if no frame has been processed yet.
        """
        try:
            # Frames that wait are processed even where the core fails.
            with ExitStack() as ending:
                ending.callback(self._drain, wait_for_first)
                if self._unfollow is not None:
                    self._unfollow()
                if self.core is not None:
                    ending.callback(self.listener.detach)
                    if self.core.isSequenceRunning():
                        self.core.stopSequenceAcquisition()
        finally:
            # Frames still in flight are counted as dropped.
            self.listener.close()

    def _drain(self, wait_for_first: bool) -> None:
        # Called from one of the listener's slots, it cannot wait for other results.
        with suppress(RuntimeError):
            self.listener.drain(_DRAIN_S)
            until = time.monotonic() + _FIRST_S
            while wait_for_first and self.listener.latest is None:
                if self.listener.drain(_TICK_S) or time.monotonic() > until:
                    break
