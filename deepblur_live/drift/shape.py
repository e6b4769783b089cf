"""Fit the shape of a change over time: step, ramp, or exponential settling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.diagnosis import ChangeShape

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ShapeFit", "fit_shape"]

# A shape is reported when no other explains the points nearly as well: a difference of
# 10 in the Bayesian information criterion is "very strong" (Kass & Raftery, JASA 90,
# 1995).
_DECISIVE = 10.0
_MIN_POINTS = 8
# Points after the onset that distinguish a ramp or settling from a step.
_MIN_MOVING = 4
_MAX_ONSETS = 40
_TIME_CONSTANTS = np.array([0.05, 0.1, 0.2, 0.35, 0.5])


@dataclass(frozen=True)
class ShapeFit:
    """The shape of a change over time.

    Parameters
    ----------
    shape
        The best shape, or ``UNCLEAR`` where another fits nearly as well.
    rate
        Slope of a ramp, in the metric's unit per second; NaN otherwise.
    time_constant
        Time constant of a settling, seconds; NaN otherwise.
    """

    shape: ChangeShape
    rate: float = math.nan
    time_constant: float = math.nan


def fit_shape(
    times: NDArray[np.float64], amounts: NDArray[np.float64], sigma: float
) -> ShapeFit:
    """Fit a step, a ramp and an exponential settling, each from rest at an onset.

    Parameters
    ----------
    times
        (n,) seconds, increasing.
    amounts
        (n,) component along the present change, in the metric's unit.
    sigma
        Standard deviation of one point, positive.
    """
    if len(times) < _MIN_POINTS:
        return ShapeFit(ChangeShape.UNCLEAR)
    span = float(times[-1] - times[0])
    spacing = span / (len(times) - 1)
    best = {
        ChangeShape.STEP: math.inf,
        ChangeShape.RAMP: math.inf,
        ChangeShape.SETTLING: math.inf,
    }
    rate = constant = math.nan
    stride = max(1, len(times) // _MAX_ONSETS)
    for first in range(0, len(times) - 1, stride):
        onset = float(times[first])
        since = np.maximum(times - onset, 0.0)
        step = (times > onset).astype(float)
        # The point that contains the step averages over both sides of it.
        step[first] = math.nan
        trials = [(ChangeShape.STEP, step, math.nan)]
        if len(times) - first > _MIN_MOVING:
            trials.append((ChangeShape.RAMP, since, math.nan))
            trials += [
                (ChangeShape.SETTLING, -np.expm1(-since / tau), float(tau))
                for tau in span * _TIME_CONSTANTS
                if tau >= 2 * spacing
            ]
        for shape, model, tau in trials:
            misfit, slope = _misfit(model, amounts, sigma)
            # A ramp has two free parameters, onset and size; a step's excluded point
            # and a time constant count as a third.
            free = 2 if shape is ChangeShape.RAMP else 3
            criterion = misfit + free * math.log(len(times))
            if criterion < best[shape]:
                best[shape] = criterion
                if shape is ChangeShape.RAMP:
                    rate = slope
                elif shape is ChangeShape.SETTLING:
                    constant = tau
    shape, second = sorted(best, key=lambda shape: best[shape])[:2]
    if best[second] - best[shape] < _DECISIVE:
        return ShapeFit(ChangeShape.UNCLEAR)
    return ShapeFit(
        shape,
        rate if shape is ChangeShape.RAMP else math.nan,
        constant if shape is ChangeShape.SETTLING else math.nan,
    )


def _misfit(
    model: NDArray[np.float64], amounts: NDArray[np.float64], sigma: float
) -> tuple[float, float]:
    """Return χ² of the best size · model, the size being positive, and that size."""
    known = np.isfinite(model)
    model, amounts = model[known], amounts[known]
    power = float(model @ model)
    size = max(0.0, float(model @ amounts) / power) if power > 0 else 0.0
    return float(np.sum((amounts - size * model) ** 2)) / sigma**2, size
