"""Whether a frame has told its blur: a fit becomes an estimate, or a reason why not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.optics import Estimate, ZernikeFamily

if TYPE_CHECKING:
    from deepblur_live.identification.refine import Fit

__all__ = ["MAX_QUALITY", "MIN_BINS", "judge", "silent"]

MAX_QUALITY = 1.0
"""A misfit beyond this is no blur of the family, or a wrong minimum: most were."""

MIN_BINS = 15
"""With fewer frequencies above the noise there is nothing to fit."""

# Coefficients beyond so many half-ranges are not believed.
_FAR = 2.5
# Mean error over half-range beyond which an answer is no better than a guess.
_MAX_SIGMA = 0.4


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
    elif np.any(np.abs(gamma) > _FAR * half):
        reason = "the blur is out of the family's range"
    elif error > _MAX_SIGMA * half.mean():
        reason = "the blur is too uncertain"
    return Estimate(gamma, covariance, fit.quality, not reason, reason)
