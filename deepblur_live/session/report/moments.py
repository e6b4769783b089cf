"""Moments of a session to compare: its start, its worst, its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.calibrated import CalibratedZernikeFamily

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import Quality
    from deepblur_live.session.report.read import SessionData

__all__ = ["Moment", "moments", "reference", "short_value"]


@dataclass(frozen=True)
class Moment:
    """The blur at one moment.

    Parameters
    ----------
    name
        ``"start"``, ``"worst"``, ``"end"``, or what the reference is.
    time
        Seconds since the session began; None for the reference.
    coefficients, sigma
        (P,) in the family's unit.
    quality
        The family's measures of its quality.
    """

    name: str
    time: float | None
    coefficients: NDArray[np.float64]
    sigma: NDArray[np.float64]
    quality: tuple[Quality, ...]


def moments(data: SessionData) -> list[Moment]:
    """Return start, worst and end; nothing where no frame was identified.

    The start is the first tracked point. The worst has the largest change from the
    baseline, or from the mean of the prior where there never was a baseline.
    """
    family = data.family
    tracked, sigma = data.coefficients(), data.coefficients("sigma_")
    known = np.flatnonzero(np.isfinite(tracked).all(axis=1))
    if not known.size:
        return []
    change = data.change[known]
    if not np.isfinite(change).any():
        offsets = tracked[known] - family.prior.mean
        change = np.array([family.metric.size(offset) for offset in offsets])
    worst = known[int(np.nanargmax(change))]
    places = {"start": known[0], "worst": worst, "end": known[-1]}
    return [
        Moment(
            name,
            float(data.times[k]),
            tracked[k],
            sigma[k],
            family.quality(tracked[k]),
        )
        for name, k in places.items()
    ]


def short_value(quality: Quality) -> tuple[str, str]:
    """Return a value and its unit, in the display unit if there is one."""
    value = quality.value * quality.display_scale
    text = f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"
    return text, quality.display_unit or quality.unit


def reference(data: SessionData) -> Moment:
    """Return the mean of the family's prior, to compare the moments with."""
    mean = data.family.prior.mean
    name = "mean of the prior" if mean.any() else "all coefficients zero"
    if isinstance(data.family, CalibratedZernikeFamily):
        name = "mean of the calibration"
    return Moment(name, None, mean, np.zeros_like(mean), data.family.quality(mean))
