"""A check of the live estimate by a step of the focus drive, in a running session."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.acquisition.focus_sweep import acquire_sweep
from deepblur_live.identification import CheckVerdict
from deepblur_live.runtime.focus_check import check_frames
from deepblur_live.session.focus_sweep import microscope, undisturbed
from deepblur_live.session.verification import VerificationState

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepblur_live.identification import FocusCheck
    from deepblur_live.session.live import LiveSession

__all__ = ["CHECK_STEPS", "check_session"]

CHECK_STEPS = np.array([0.0, 1.0, -1.0, 0.0])
"""Positions of a check's frames, in steps: both sides, as a single frame does not show
on which side of the focus it is; the last frame shows whether anything has drifted."""


def check_session(
    session: LiveSession,
    step_um: float,
    progress: Callable[[float], None] = lambda share: None,
) -> FocusCheck:
    """Move the focus by one step to each side, and see whether the estimates follow.

    As for a sweep, live mode or a running MDA pauses for four frames and continues, and
    the frames do not reach the session. The result is an event in its log and, unless
    it is undecided, the session's verification. It is undecided if the specimen changes
    before the check ends. It takes a few seconds of one core: call it from a separate
    thread.

    Parameters
    ----------
    session
        A session with a microscope.
    step_um
        Step of the focus drive, to each side.
    progress
        Called with the share that is done, 0 to 1, on the calling thread.

    Raises
    ------
    SweepError
        The session has no microscope, an MDA does not pause, a sequence other than live
        mode is running, the stage does not follow, or the frames cannot be used; the
        microscope then continues as before.
    """
    core = microscope(session)
    with undisturbed(session, core):
        frames = acquire_sweep(core, abs(step_um) * CHECK_STEPS, range_um=abs(step_um))
        # Read here, as a continued MDA may go to another series.
        series, spectral = session.series_history().key, session.monitor.spectral
        specimens = spectral.specimens
    profile = session.profile
    profile = profile.at_wavelength(profile.wavelength_of(series.channel))
    _, check = check_frames(profile, frames.frames, frames.z_um, progress)
    if spectral.specimens != specimens:
        check = replace(
            check,
            verdict=CheckVerdict.UNDECIDED,
            reason=f"the specimen has changed; on the previous one: {check.reason}",
        )
    session.note(
        "estimateChecked",
        verdict=str(check.verdict),
        reason=check.reason,
        slope=None if math.isnan(check.slope) else check.slope,
        slope_sigma=None if math.isnan(check.slope) else check.slope_sigma,
        z_um=check.z_um.tolist(),
    )
    if check.verdict is CheckVerdict.FOLLOWS:
        clock = datetime.now().astimezone().strftime("%H:%M")
        session.set_verification(
            VerificationState.VERIFIED,
            f"a step of the focus drive at {clock}",
            series,
        )
    elif check.verdict is CheckVerdict.NOT_RELIABLE:
        session.set_verification(VerificationState.CONTRADICTED, check.reason, series)
    return check
