"""The distance of a session's blur from the calibration that it used."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.session.report.moment import Moment
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
    if family.left_out is None:
        return ""
    show = family.metric.show
    distances = [
        f"{moment.point.name} {show(*moment.distance)}"
        for moment in shown
        if moment.distance is not None
    ]
    left_out = f" (without {', '.join(family.left_out)})" if family.left_out else ""
    name = Path(str(data.profile.model.calibration)).name
    expected = show(family.expected)
    varies = (
        " The blur varies over the frame as calibrated; the coefficients are those of "
        "its mean."
        if data.profile.model.blur == "field"
        else ""
    )
    text = (
        f"The coefficients are relative to the mean state of the calibration {name}. "
        f"Distance from it{left_out}: {', '.join(distances)}. A state of this "
        f"microscope is expected within {expected}.{varies}"
    )
    return f"<p class=note>{html.escape(text)}</p>"
