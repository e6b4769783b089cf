"""What an alert says: what has moved, by how much, in which modes, since when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.drift.cause import likely_cause
from deepblur_live.drift.shape import Shape, ShapeFit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from deepblur_live.drift.status import DriftState

__all__ = ["Alert", "clock_text", "make_alert"]

# The modes named are the fewest that explain this share of the squared change.
_SHARE = 0.8
_MAX_MODES = 3
# A ramp slower than this in ten minutes is told by the hour.
_SLOW_NM = 2.0


@dataclass(frozen=True)
class Alert:
    """The optics have moved: one rise to a warning or an alarm.

    Parameters
    ----------
    time
        Seconds since the session began.
    level
        ``WARN`` or ``ALARM``.
    change_waves, change_nm
        rms of the wavefront's change from the baseline.
    uncertainty
        Standard deviation of `change_waves`, waves: its scatter, and what the estimates
        state of the error that they have in common.
    modes
        Names of the modes that moved most, the largest first.
    mode_changes
        Their changes, waves rms, signed (even modes: up to the twin's common sign).
    since
        When the change began to show, seconds since the session began.
    text
        All of it, for a person to read.
    shape
        How it has come about: a :class:`~deepblur_live.drift.shape.Shape`.
    cause, remedy
        The likely cause, which begins with ``unclear`` where it is; and what to do.
    """

    time: float
    level: DriftState
    change_waves: float
    change_nm: float
    uncertainty: float
    modes: tuple[str, ...]
    mode_changes: tuple[float, ...]
    since: float
    text: str
    shape: str = ""
    cause: str = ""
    remedy: str = ""


def clock_text(seconds: float) -> str:
    """Return seconds as ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def make_alert(
    *,
    time: float,
    level: DriftState,
    change: float,
    sigma: float,
    difference: NDArray[np.float64],
    weights: NDArray[np.float64],
    names: Sequence[str],
    wavelength_nm: float,
    since: float,
    fit: ShapeFit,
) -> Alert:
    """Put an alert into words.

    Parameters
    ----------
    change, sigma
        Wavefront change and its standard deviation, waves rms.
    difference
        (P,) coefficients less baseline, waves rms.
    weights
        (P,) weight of each squared coefficient in the squared wavefront rms.
    fit
        The change's shape in time.
    """
    share = weights * difference**2
    order = np.argsort(-share)
    enough = np.cumsum(share[order]) >= _SHARE * share.sum()
    count = min(int(np.argmax(enough)) + 1, _MAX_MODES)
    modes = tuple(names[i] for i in order[:count])
    changes = tuple(float(difference[i]) for i in order[:count])
    listed = [
        f"{mode} ({moved * wavelength_nm:+.0f} nm)"
        for mode, moved in zip(modes, changes, strict=True)
    ]
    joined = listed[0] if count == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
    cause = likely_cause(names, share.tolist(), fit)
    text = (
        f"{level.upper()} at {clock_text(time)}: the wavefront has changed by "
        f"{change * wavelength_nm:.0f} ± {sigma * wavelength_nm:.0f} nm rms "
        f"({change:.3f} ± {sigma:.3f} waves) from the baseline, mostly {joined}, "
        f"since about {clock_text(since)}{_pace(fit, wavelength_nm)}. "
        f"Likely cause: {cause.cause}. What to do: {cause.remedy}"
    )
    return Alert(
        time,
        level,
        change,
        change * wavelength_nm,
        sigma,
        modes,
        changes,
        since,
        text,
        str(fit.shape),
        cause.cause,
        cause.remedy,
    )


def _pace(fit: ShapeFit, wavelength_nm: float) -> str:
    """Return how the change goes on, for the middle of a sentence."""
    if fit.shape is Shape.STEP:
        return ", all at once"
    if fit.shape is Shape.RAMP:
        amount, time = fit.rate * wavelength_nm * 600, "in ten minutes"
        if amount < _SLOW_NM:
            amount, time = 6 * amount, "an hour"
        return f", steadily by {amount:.0f} nm {time}"
    if fit.shape is Shape.SETTLING:
        return f", settling within some {3 * fit.time_constant / 60:.0f} minutes"
    return ""
