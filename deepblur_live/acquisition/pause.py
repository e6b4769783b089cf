"""Pause a core's acquisition, live mode or an MDA, and continue it."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from deepblur_live.identification import SweepError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymmcore_plus import CMMCorePlus
    from pymmcore_plus.mda import MDARunner

__all__ = ["acquisition_paused"]

# Longest wait for the end of an MDA's event.
_TIMEOUT_S = 10.0
_POLL_S = 0.01
# The runner (pymmcore-plus 0.18) sleeps for up to 0.5 s before an event, and then
# begins it although a pause was requested meanwhile: only after that is it paused.
_SETTLED_S = 0.6


@contextlib.contextmanager
def acquisition_paused(
    core: CMMCorePlus,
    *,
    live_mode: bool = True,
    resume: Callable[[], bool] = lambda: True,
    timeout_s: float = _TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Pause live mode or a running MDA for the time of a ``with`` block.

    It then continues, also after an error; an MDA that was paused before stays paused.

    Parameters
    ----------
    core
        The microscope.
    live_mode
        Whether a running sequence was started as live mode. Any other ends after a
        number of images that the core does not report: it could not be continued.
    resume
        Asked at the end: whether live mode is to continue.
    timeout_s
        Longest time that an MDA may take for its current event.
    clock
        Seconds, monotonic.

    Raises
    ------
    SweepError
        The MDA does not pause in time, or a sequence other than live mode is running;
        it then continues.
    """
    if core.mda.is_running():
        ours = _pause(core.mda, timeout_s, clock)
        try:
            yield
        finally:
            if ours:
                core.mda.set_paused(False)
        return
    live = core.isSequenceRunning()
    if live and not live_mode:
        raise SweepError(
            "a sequence of images is running: wait for its end (or, if it is live mode "
            "that was started before the session, start it again)"
        )
    if live:
        core.stopSequenceAcquisition()
    try:
        yield
    finally:
        if live and resume():
            core.startContinuousSequenceAcquisition()
            # Whether to resume may have changed while the camera started.
            if not resume():
                core.stopSequenceAcquisition()


def _pause(runner: MDARunner, timeout_s: float, clock: Callable[[], float]) -> bool:
    """Wait until an MDA is paused, or has ended; return whether to resume it."""
    ours = False
    end = clock() + timeout_s
    since: float | None = None
    wait = threading.Event()  # never set: a wait without a busy loop
    while runner.is_running():
        now = clock()
        if not runner.is_paused():
            since = None
            if not runner.status.pause_requested:
                runner.set_paused(True)
                ours = True
        else:
            since = now if since is None else since
            if now - since >= _SETTLED_S:
                break
        if now > end:
            if ours:
                runner.set_paused(False)
            raise SweepError(
                f"the MDA has not paused within {timeout_s:g} s: its current event "
                "takes longer; pause or end it first"
            )
        wait.wait(_POLL_S)
    return ours
