"""How far a session's blur was from the calibration that it used."""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.calibrated import CalibratedZernikeFamily
from deepblur_live.drift import distance
from deepblur_live.session.measured_blur import compared_modes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.session.report.moments import Moment
    from deepblur_live.session.report.read import SessionData

__all__ = ["calibration_note"]


def calibration_note(data: SessionData, shown: Sequence[Moment]) -> str:
    """Return the distances as an HTML note; empty without a calibration.

    Parameters
    ----------
    shown
        The session's start, worst and end.
    """
    family = data.family
    if not isinstance(family, CalibratedZernikeFamily):
        return ""
    compared, show = compared_modes(family), family.metric.show
    distances = [
        f"{moment.name} {show(*distance(family, compared, *_of(moment)))}"
        for moment in shown
    ]
    learned = family.learned.covariance[np.ix_(compared, compared)]
    left_out = ", ".join(np.array(family.names)[~compared]) or "nothing"
    name = Path(str(data.profile.model.calibration)).name
    expected = show(math.sqrt(float(np.trace(learned))))
    text = (
        f"The coefficients count from the mean state of the calibration {name}. "
        f"Distance from it ({left_out} left out): {', '.join(distances)}. A state of "
        f"this microscope is expected within {expected}."
    )
    return f"<p class=note>{html.escape(text)}</p>"


def _of(moment: Moment) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return moment.coefficients, np.diag(np.square(moment.sigma))
