"""An alert: what has changed, by how much, since when, the likely cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.diagnosis import ChangeShape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.family import BlurFamily, ChangeMetric
    from deepblur_live.drift.shape import ShapeFit
    from deepblur_live.drift.status import DriftState

__all__ = ["CONTRAST_UNIT", "Alert", "clock_text", "make_alert"]

CONTRAST_UNIT = "Np"
"""Unit of changes measured by the spectra."""

# The coefficients named are the fewest that explain this share of the squared change.
_SHARE = 0.8
_MAX_NAMED = 3
# A ramp that changes by less than this in ten minutes, in display units, is reported
# per hour.
_SLOW = 2.0


@dataclass(frozen=True)
class Alert:
    """The optics have changed: a rise to a warning or an alarm.

    Parameters
    ----------
    time
        Seconds since the session began.
    level
        ``WARN`` or ``ALARM``.
    change, change_sigma
        Size of the change from the baseline and its standard deviation, which includes
        the systematic error that the estimates state.
    unit
        Unit of both, the metric's (``"waves rms"``).
    coefficients
        Names of the coefficients that changed most, the largest change first.
    changes
        Their signed changes, in the family's unit; a sign ambiguity of the family
        remains.
    since
        When the change began, seconds since the session began.
    text
        The alert as text, for the user.
    shape
        How the change developed: a `ChangeShape`.
    cause, remedy
        The likely cause, which starts with ``unclear`` when it cannot be identified;
        and what to do.
    series
        Channel, position and plane whose blur has changed, of an MDA with several.
    """

    time: float
    level: DriftState
    change: float
    change_sigma: float
    unit: str
    coefficients: tuple[str, ...]
    changes: tuple[float, ...]
    since: float
    text: str
    shape: str = ""
    cause: str = ""
    remedy: str = ""
    series: str = ""


def clock_text(seconds: float) -> str:
    """Return seconds as ``h:mm:ss``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def make_alert(
    family: BlurFamily,
    *,
    time: float,
    level: DriftState,
    change: float,
    sigma: float,
    difference: NDArray[np.float64],
    since: float,
    fit: ShapeFit,
    origin: str = "",
) -> Alert:
    """Return an alert with its text.

    Parameters
    ----------
    change, sigma
        Size of the change and its standard deviation, in the metric's unit.
    difference
        (P,) coefficients less baseline.
    fit
        The shape of the change over time.
    origin
        The known state from which the blur differs, if it is not the baseline.
    """
    metric = family.metric
    share = difference * (metric.matrix @ difference)
    order = np.argsort(-share)
    enough = np.cumsum(share[order]) >= _SHARE * share.sum()
    count = min(int(np.argmax(enough)) + 1, _MAX_NAMED)
    names = tuple(family.names[i] for i in order[:count])
    changes = tuple(float(difference[i]) for i in order[:count])
    listed = [
        f"{name} ({_signed(changed, family)})"
        for name, changed in zip(names, changes, strict=True)
    ]
    joined = listed[0] if count == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
    size = metric.show(change, sigma)
    if metric.display_unit != metric.unit:
        size += f" ({change:.3f} ± {sigma:.3f} {metric.unit})"
    cause = family.diagnose(difference, fit.shape)
    moved = f"has changed by {size} from the baseline"
    if origin:
        moved = f"differs by {size} from {origin}"
    text = (
        f"{level.upper()} at {clock_text(time)}: the blur {moved}, mostly {joined}, "
        f"since about {clock_text(since)}"
        f"{_pace(fit, metric)}. "
        f"Likely cause: {cause.cause}. What to do: {cause.remedy}"
    )
    return Alert(
        time,
        level,
        change,
        sigma,
        metric.unit,
        names,
        changes,
        since,
        text,
        str(fit.shape),
        cause.cause,
        cause.remedy,
    )


def _signed(change: float, family: BlurFamily) -> str:
    """Return the change of one coefficient with its sign and unit."""
    metric = family.metric
    if family.unit != metric.unit:
        return f"{change:+.3g} {family.unit}"
    return f"{'-' if change < 0 else '+'}{metric.show(abs(change))}"


def _pace(fit: ShapeFit, metric: ChangeMetric) -> str:
    """Return how the change proceeds, as the end of a clause."""
    if fit.shape is ChangeShape.STEP:
        return ", in a single step"
    if fit.shape is ChangeShape.RAMP:
        amount, period = fit.rate * 600, "in ten minutes"
        if amount * metric.display_scale < _SLOW:
            amount, period = 6 * amount, "per hour"
        return f", steadily by {metric.show(amount)} {period}"
    if fit.shape is ChangeShape.SETTLING:
        return f", settling within about {3 * fit.time_constant / 60:.0f} minutes"
    return ""
