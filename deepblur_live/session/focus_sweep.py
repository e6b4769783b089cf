"""A focus sweep in a running session: pause live mode, sweep, resume, refocus."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.acquisition.focus_sweep import acquire_sweep, move_focus
from deepblur_live.identification import SweepError
from deepblur_live.runtime.focus_sweep import sweep_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymmcore_plus import CMMCorePlus

    from deepblur_live.identification import SweepResult
    from deepblur_live.session.live import LiveSession

__all__ = ["refocus_session", "sweep_session"]

_PLANES = 3


def sweep_session(
    session: LiveSession,
    step_um: float,
    progress: Callable[[float], None] = lambda share: None,
) -> SweepResult:
    """Sweep the focus of a session's microscope by one step to each side.

    Live mode pauses meanwhile and continues as soon as the frames are there; a running
    MDA must be paused first. The frames out of focus do not reach the session. The
    result is an event in its log. It takes some seconds of one core: call it from a
    thread of its own.

    Parameters
    ----------
    session
        A session with a microscope.
    step_um
        Distance of the planes.
    progress
        Called with the share that is done, 0 to 1, on the calling thread.

    Raises
    ------
    SweepError
        The session has no microscope, the stage does not follow, or the frames are not
        a sweep; the microscope then goes on as before.
    """
    core = _core(session)
    steps = np.arange(_PLANES, dtype=np.float64) - _PLANES // 2
    with _undisturbed(session, core):
        sweep = acquire_sweep(core, abs(step_um) * steps, range_um=abs(step_um))
    _, result = sweep_frames(session.profile, sweep.frames, sweep.z_um, progress)
    session.note(
        "focusSweep",
        refocus_um=result.refocus_um,
        refocus_sigma_um=result.refocus_sigma_um,
        coefficients=result.coefficients.tolist(),
        chi2=result.chi2,
        thick=result.thick,
    )
    return result


def refocus_session(session: LiveSession, move_um: float, range_um: float) -> None:
    """Move the focus drive, and measure a new baseline there.

    Parameters
    ----------
    session
        A session with a microscope.
    move_um
        By how much, such as `SweepResult.refocus_um`.
    range_um
        Largest move that is allowed.

    Raises
    ------
    SweepError
        There is no focus drive, the move exceeds the range, or it does not end.
    """
    core = _core(session)
    if abs(move_um) > range_um:
        raise SweepError(
            f"a move of {1000 * move_um:+.0f} nm exceeds the allowed range of "
            f"{1000 * range_um:.0f} nm"
        )
    stage = core.getFocusDevice()
    if not stage:
        raise SweepError("the microscope has no focus drive")
    move_focus(core, stage, float(core.getPosition(stage)) + move_um)
    session.note("refocused", move_um=move_um)
    session.rebaseline()


def _core(session: LiveSession) -> CMMCorePlus:
    if session.core is None:
        raise SweepError("the session has no microscope: a recording cannot be swept")
    return session.core


@contextlib.contextmanager
def _undisturbed(session: LiveSession, core: CMMCorePlus) -> Iterator[None]:
    """Pause live mode, and keep the sweep's frames from the session."""
    # Snaps during a paused MDA do not reach the session anyway.
    in_mda = core.mda.is_running()
    live = core.isSequenceRunning() and not in_mda
    if live:
        core.stopSequenceAcquisition()
    if not in_mda:
        session.listener.detach()
    try:
        yield
    finally:
        if not in_mda:
            session.listener.attach(core)
        if live:
            core.startContinuousSequenceAcquisition()
