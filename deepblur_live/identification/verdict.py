"""Whether a frame has told its blur: a fit becomes an estimate, or a reason why not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.optics import Estimate, ZernikeFamily

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.identification.refine import Fit

__all__ = ["MAX_QUALITY", "MIN_BINS", "judge", "silent"]

MAX_QUALITY = 0.85
"""A misfit beyond this is no blur of the family, or a wrong minimum: most were.

Of 132 validation frames two were refused for it and were well identified.
"""

MIN_BINS = 15
"""With fewer frequencies above the noise there is nothing to fit."""

# A coefficient beyond so many half-ranges is not believed, nor are all together when
# their sum of squares over half-ranges is beyond its mean and so many deviations, were
# they drawn evenly from their ranges. Another kind of blur often needs such γ.
_FAR, _FAR_TOGETHER = 2.0, 2.5
# Mean error over half-range beyond which an answer is no better than a guess.
_MAX_SIGMA = 0.5


def silent(family: ZernikeFamily) -> Estimate:
    """Return what is said of a frame in which nothing rises above the noise."""
    covariance = np.diag(np.square(family.half_ranges))
    reason = "nothing in the frame rises above the noise"
    zero = np.zeros(family.n_coefficients)
    return Estimate(zero, covariance, float("inf"), False, reason)


def judge(family: ZernikeFamily, fit: Fit) -> Estimate:
    """Return the best fit as an estimate, or say why it cannot be trusted."""
    gamma, covariance = fit.coefficients[0], fit.covariance
    half = np.array(family.half_ranges)
    error = math.sqrt(float(np.trace(covariance)) / len(gamma))
    reason = ""
    if fit.quality > MAX_QUALITY:
        reason = "no blur of the family fits the frame"
    elif _far(gamma / half):
        reason = "the blur is out of the family's range"
    elif error > _MAX_SIGMA * half.mean():
        reason = "the blur is too uncertain"
    return Estimate(gamma, covariance, fit.quality, not reason, reason)


def _far(relative: NDArray[np.float64]) -> bool:
    """Return whether coefficients over their half-ranges, (P,), are out of range."""
    count = len(relative)
    # A square has a mean of 1/3 and a variance of 4/45.
    together = count / 3 + _FAR_TOGETHER * math.sqrt(4 / 45 * count)
    # Any one mode may go as far as it may alone.
    together = max(together, _FAR**2)
    square = np.square(relative)
    return bool(square.max() > _FAR**2 or square.sum() > together)
