"""A focus sweep in a running session: pause, sweep, resume; refocus and continue."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.acquisition.focus_sweep import acquire_sweep, move_focus
from deepblur_live.acquisition.pause import acquisition_paused
from deepblur_live.blur import focus_direction
from deepblur_live.blur.one_psf import as_field, local_family
from deepblur_live.drift import Gaussian, random_walk
from deepblur_live.identification import SweepError, SweepResult
from deepblur_live.runtime.focus_sweep import sweep_frames
from deepblur_live.runtime.series_key import SeriesKey
from deepblur_live.session.sweep_judge import KnownBlur

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymmcore_plus import CMMCorePlus

    from deepblur_live.session.live import LiveSession

__all__ = [
    "SessionSweep",
    "accept_sweep",
    "microscope",
    "refocus_session",
    "sweep_session",
    "undisturbed",
]

_PLANES = 3


@dataclass(frozen=True)
class SessionSweep(SweepResult):
    """The result of a sweep of a session's microscope, with its place and time.

    Parameters
    ----------
    position_um
        Position of the focus drive for which the coefficients hold.
    time_s
        End of the sweep, in seconds since the session began.
    clock
        The same on the wall clock, such as "12:03".
    series
        The channel, position and plane of the frames before the sweep.
    """

    position_um: float
    time_s: float
    clock: str
    series: SeriesKey = field(default_factory=SeriesKey)


def sweep_session(
    session: LiveSession,
    step_um: float,
    progress: Callable[[float], None] = lambda share: None,
) -> SessionSweep:
    """Sweep the focus of a session's microscope by one step to each side.

    Live mode or a running MDA is paused until the frames are acquired. The frames out
    of focus do not reach the session. The result is an event in its log. It takes a few
    seconds of one core: call it from a separate thread. Nothing else changes before the
    result is accepted, by `refocus_session` or `accept_sweep`.

    Parameters
    ----------
    session
        A session with a microscope.
    step_um
        Distance between planes.
    progress
        Called with the share that is done, 0 to 1, on the calling thread.

    Raises
    ------
    SweepError
        The session has no microscope, an MDA does not pause, a sequence other than live
        mode is running, the stage does not follow, or the frames cannot be evaluated;
        the microscope then continues as before.
    """
    core = microscope(session)
    steps = np.arange(_PLANES, dtype=np.float64) - _PLANES // 2
    with undisturbed(session, core):
        sweep = acquire_sweep(core, abs(step_um) * steps, range_um=abs(step_um))
        made, clock = session.listener.time, f"{datetime.now():%H:%M}"
        # Read here, as a continued MDA may go to another series.
        series = session.series_history().key
    profile = session.profile
    profile = profile.at_wavelength(profile.wavelength_of(series.channel))
    _, result = sweep_frames(profile, sweep.frames, sweep.z_um, progress)
    session.note(
        "focusSweep",
        refocus_um=result.refocus_um,
        refocus_sigma_um=result.refocus_sigma_um,
        coefficients=result.coefficients.tolist(),
        sigma=result.sigma.tolist(),
        chi2=result.chi2,
        thick=result.thick,
    )
    return SessionSweep(
        **vars(result),
        position_um=sweep.start_um,
        time_s=made,
        clock=clock,
        series=series,
    )


def refocus_session(session: LiveSession, sweep: SessionSweep, range_um: float) -> None:
    """Move the focus drive into focus according to a sweep, and accept it there.

    Live mode or a running MDA pauses for the move.

    Parameters
    ----------
    session
        A session with a microscope.
    sweep
        From `sweep_session`.
    range_um
        Largest move that is allowed, from the drive's position at the sweep and from
        the present one.

    Raises
    ------
    SweepError
        The specimen is too thick, there is no focus drive, the move exceeds the range
        or does not end, or the acquisition cannot be paused.
    """
    core = microscope(session)
    _check_thin(sweep)
    _check_range(sweep.refocus_um, range_um, "")
    stage = _stage(core)
    target_um = sweep.position_um + sweep.refocus_um
    with undisturbed(session, core):
        move_um = target_um - float(core.getPosition(stage))
        _check_range(move_um, range_um, ", as the drive has been moved since the sweep")
        move_focus(core, stage, target_um)
        session.note("refocused", move_um=move_um)
        accept_sweep(session, sweep)


def accept_sweep(session: LiveSession, sweep: SessionSweep) -> None:
    """Continue from the result of a sweep, at the drive's present position.

    The live estimates start from it, are compared with it, and new baselines are
    measured.
    Moves of the focus drive since the sweep are corrected; for other drift the
    deviations are widened as the tracker's are.

    Raises
    ------
    SweepError
        The specimen is too thick for coefficients, there is no focus drive, or it is
        now further from focus than the range of the live estimates.
    """
    core = microscope(session)
    whole = session.series_history(sweep.series).family
    family = local_family(whole)
    _check_thin(sweep)
    moved = float(core.getPosition(_stage(core))) - sweep.position_um
    defocus, furthest = (
        moved - sweep.refocus_um,
        session.profile.optics.defocus_range_um,
    )
    if abs(defocus) > furthest:
        raise SweepError(
            f"the focus drive is {1000 * abs(defocus):.0f} nm from focus, but live "
            f"estimates reach only {1000 * furthest:.0f} nm: refocus, or sweep closer "
            "to focus"
        )
    deeper = 1 if session.profile.stage.deeper == "larger" else -1
    now = session.listener.time
    walk = (now - sweep.time_s) * random_walk(family)
    coefficients, covariance = as_field(
        whole,
        sweep.coefficients + deeper * moved * focus_direction(family),
        sweep.covariance + walk,
    )
    blur = Gaussian(now, coefficients, covariance)
    session.note(
        "sweepAccepted",
        moved_um=moved,
        coefficients=blur.coefficients.tolist(),
        sigma=np.sqrt(np.diag(blur.covariance)).tolist(),
    )
    known_to = float(sweep.sigma.max())
    known = KnownBlur(blur, known_to, sweep.turn_known, sweep.clock)
    session.start_from(known, sweep.series)


def microscope(session: LiveSession) -> CMMCorePlus:
    """Return the core of a session.

    Raises
    ------
    SweepError
        It has none.
    """
    if session.core is None:
        raise SweepError("the session has no microscope: a recording cannot be swept")
    return session.core


def _stage(core: CMMCorePlus) -> str:
    stage = core.getFocusDevice()
    if not stage:
        raise SweepError("the microscope has no focus drive")
    return stage


def _check_range(move_um: float, range_um: float, reason: str) -> None:
    if abs(move_um) > range_um:
        raise SweepError(
            f"a move of {1000 * move_um:+.0f} nm exceeds the allowed range of "
            f"{1000 * range_um:.0f} nm{reason}"
        )


def _check_thin(sweep: SweepResult) -> None:
    if sweep.thick:
        raise SweepError(
            f"only the direction of focus is known, as {sweep.thick}: sweep a thinner "
            "part"
        )


@contextlib.contextmanager
def undisturbed(session: LiveSession, core: CMMCorePlus) -> Iterator[None]:
    """Pause the acquisition, and keep frames from the session in the meantime.

    Live mode does not continue if the session has been closed by then.
    """
    listener = session.listener
    with acquisition_paused(
        core, live_mode=listener.live_mode, resume=lambda: not session.closed
    ):
        # Snaps during a paused MDA do not reach the session anyway.
        in_mda = core.mda.is_running()
        if not in_mda:
            listener.detach()
        try:
            yield
        finally:
            if not in_mda:
                listener.attach(core)
