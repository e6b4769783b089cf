"""Moments of a session to compare: its start, its worst, its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.session.report.moment import Point

if TYPE_CHECKING:
    from deepblur_live.blur import Quality
    from deepblur_live.session.report.moment import Moment
    from deepblur_live.session.report.read import SessionData

__all__ = ["moments", "reference", "short_value"]


def moments(data: SessionData) -> list[Moment]:
    """Return start, worst and end; nothing where no frame was identified.

    The start is the first tracked point. The worst has the largest change from the
    baseline, or from the mean of the prior where there never was a baseline.
    """
    tracked, sigma = data.coefficients(), data.coefficients("sigma_")
    known = np.flatnonzero(np.isfinite(tracked).all(axis=1))
    if not known.size:
        return []
    change = data.change[known]
    if not np.isfinite(change).any():
        offsets = tracked[known] - data.family.mean
        change = np.array([data.family.metric.size(offset) for offset in offsets])
    worst = known[int(np.nanargmax(change))]
    rows = {"start": known[0], "worst": worst, "end": known[-1]}
    return [
        _moment(data, Point(name, float(data.times[k]), tracked[k], sigma[k]))
        for name, k in rows.items()
    ]


def reference(data: SessionData) -> Moment:
    """Return the mean of the family's prior, to compare the moments with."""
    mean = data.family.mean
    return _moment(data, Point(data.family.mean_name, None, mean, np.zeros_like(mean)))


def short_value(quality: Quality) -> tuple[str, str]:
    """Return a value and its unit, in the display unit if there is one."""
    value = quality.value * quality.display_scale
    text = f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"
    return text, quality.display_unit or quality.unit


def _moment(data: SessionData, point: Point) -> Moment:
    """Return the moment that the session stored at its end, or compute it."""
    for moment in data.stored:
        if moment.point.is_same(point):
            return moment
    from deepblur_live.session.report import computed

    return computed.moment(data.blurs, point)
