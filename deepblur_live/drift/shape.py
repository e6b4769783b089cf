"""The shape of a change over time: a step, a ramp, a settling; or unclear."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Shape", "ShapeFit", "change_shape"]

# A shape is named when no other explains the points nearly as well: a difference of
# the Bayesian criterion of 10 is "very strong" (Kass & Raftery, JASA 90, 1995).
_DECISIVE = 10.0
_MIN_POINTS = 8
# So many points of a ramp or settling itself tell it from a step.
_MIN_MOVING = 4
# Scatter below this, in waves, is rounding.
_RESOLUTION = 2e-4
_MAX_ONSETS = 40


class Shape(StrEnum):
    """How a change has come about."""

    STEP = "step"
    RAMP = "ramp"
    SETTLING = "settling"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class ShapeFit:
    """The shape of a change.

    Parameters
    ----------
    shape
        The best, or ``UNCLEAR`` where another is nearly as good.
    rate
        Slope of a ramp, waves a second; else NaN.
    time_constant
        Of a settling, seconds; else NaN.
    """

    shape: Shape
    rate: float = math.nan
    time_constant: float = math.nan


def change_shape(
    times: NDArray[np.float64], amounts: NDArray[np.float64], sigma: float
) -> ShapeFit:
    """Fit a step, a ramp and an exponential approach, each from rest at some onset.

    Parameters
    ----------
    times
        (n,) seconds, rising.
    amounts
        (n,) change along its present direction, waves.
    sigma
        Standard deviation of one point, waves.
    """
    if len(times) < _MIN_POINTS:
        return ShapeFit(Shape.UNCLEAR)
    sigma = max(sigma, _RESOLUTION)
    span = float(times[-1] - times[0])
    spacing = span / (len(times) - 1)
    best = {Shape.STEP: math.inf, Shape.RAMP: math.inf, Shape.SETTLING: math.inf}
    rate = constant = math.nan
    stride = max(1, len(times) // _MAX_ONSETS)
    for first in range(0, len(times) - 1, stride):
        onset = float(times[first])
        since = np.maximum(times - onset, 0.0)
        step = (times > onset).astype(float)
        # The point that holds a step is partly before and partly after it.
        step[first] = math.nan
        trials = [(Shape.STEP, step, math.nan)]
        if len(times) - first > _MIN_MOVING:
            trials.append((Shape.RAMP, since, math.nan))
            trials += [
                (Shape.SETTLING, -np.expm1(-since / tau), tau)
                for tau in span * np.array([0.05, 0.1, 0.2, 0.35, 0.5])
                if tau >= 2 * spacing
            ]
        for shape, course, tau in trials:
            misfit, slope = _misfit(course, amounts, sigma)
            # Onset and size are free in a ramp; a step's own point, and a time
            # constant, are one more.
            free = 2 if shape is Shape.RAMP else 3
            criterion = misfit + free * math.log(len(times))
            if criterion < best[shape]:
                best[shape] = criterion
                if shape is Shape.RAMP:
                    rate = slope
                elif shape is Shape.SETTLING:
                    constant = float(tau)
    ranked = sorted(best, key=lambda shape: best[shape])
    if best[ranked[1]] - best[ranked[0]] < _DECISIVE:
        return ShapeFit(Shape.UNCLEAR)
    shape = ranked[0]
    return ShapeFit(
        shape,
        rate if shape is Shape.RAMP else math.nan,
        constant if shape is Shape.SETTLING else math.nan,
    )


def _misfit(
    course: NDArray[np.float64], amounts: NDArray[np.float64], sigma: float
) -> tuple[float, float]:
    """Return the misfit (χ²) of size · course, and the size that fits best."""
    known = np.isfinite(course)
    course, amounts = course[known], amounts[known]
    power = float(course @ course)
    size = max(0.0, float(course @ amounts) / power) if power > 0 else 0.0
    return float(np.sum((amounts - size * course) ** 2)) / sigma**2, size
