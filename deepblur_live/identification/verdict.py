"""Whether a frame has told its blur: a fit becomes an estimate, or a reason why not.

How poorly the best blur fits, how unsure the fit is, and how far out of the declared
range its blur lies each say a little of whether the answer is right; together they say
much more. Their weights are a logistic regression on 940 fits of pictures of the
training and validation splits (blurs in and out of range; σ from 0.001 to 0.05; one
frame or 30), and of single frames of motion, gratings and equal beads: was the PSF SNR
above 8 dB, or below 5.5 (``tools/fit_verdict.py``). The constant is lower by 1 than
fitted: of those fits 52 of 733 right ones are then refused, not 20, and 24 of 85 wrong
ones believed, not 41; of 81 that motion, gratings and beads made wrong 11, not 28. It
went down by another 0.2 when minima that phases lead to became rivals and the stated
errors smaller: of 452 later fits 9 are wrong and believed, as before, and 17 right and
refused, not 24. (The 940 fits stated 0.5 of the curvature and twice the rivals.)
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.optics import Estimate, ZernikeFamily

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.identification.fit import Fit

__all__ = ["MIN_BINS", "POOR_FIT", "features", "judge", "silent"]

POOR_FIT = 0.85
"""A misfit that 95 % of well identified frames stay below."""

MIN_BINS = 15
"""With fewer frequencies above the noise there is nothing to fit."""

# The log-odds that an answer is right: of one without misfit whose error is the range,
# and what they lose a unit of misfit, of log relative error, and of half-ranges beyond.
_ODDS, _MISFIT, _ERROR, _BEYOND = 0.51, 2.01, 0.99, 10.21
# A blur may drift out of its range: so many half-ranges are still in it. From 1.0 on
# the odds would be a little better, and twice as many right answers from just beyond
# the range be lost.
_RANGE = 1.2
# No answer is surer than this, over half-range: the specimen's own blur is not known.
_LEAST_ERROR = 0.02
# A draw from the range has an error of 0.58: of pictures' fits beyond this 20 were
# wrong and 11 right.
_MAX_ERROR = 0.6
# What is usual where nothing is told well: what exceeds it most is the reason given.
_USUAL_ERROR, _USUAL_MISFIT = 0.3, 0.6


def silent(family: ZernikeFamily) -> Estimate:
    """Return what is said of a frame in which nothing rises above the noise."""
    covariance = np.diag(np.square(family.half_ranges))
    reason = "nothing in the frame rises above the noise"
    zero = np.zeros(family.n_coefficients)
    return Estimate(zero, covariance, float("inf"), False, reason)


def features(
    family: ZernikeFamily,
    coefficients: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> tuple[float, float]:
    """Return what the verdict looks at beside the misfit.

    Parameters
    ----------
    family
        The blurs.
    coefficients, covariance
        (P,) and (P, P) of a `Fit`.

    Returns
    -------
    error
        Logarithm of the root mean square error over the half-ranges.
    beyond
        Half-ranges by which the farthest coefficient is out of its range.
    """
    half = np.array(family.half_ranges)
    error = math.sqrt(float(np.mean(np.diag(covariance) / half**2)))
    beyond = max(0.0, float(np.abs(coefficients / half).max()) - _RANGE)
    return math.log(max(error, _LEAST_ERROR)), beyond


def judge(family: ZernikeFamily, fit: Fit) -> Estimate:
    """Return the best fit as an estimate, or say why it is more likely wrong."""
    gamma, covariance = fit.coefficients[0], fit.covariance
    if not (np.isfinite(gamma).all() and np.isfinite(covariance).all()):
        reason = "the fit has ended in numbers that are none"
        return replace(silent(family), reason=reason)
    error, beyond = features(family, gamma, covariance)
    odds = _ODDS - _MISFIT * fit.quality - _ERROR * error - _BEYOND * beyond
    if odds > 0 and error < math.log(_MAX_ERROR):
        return Estimate(gamma, covariance, fit.quality)
    against = {
        "the blur is too uncertain": _ERROR * (error - math.log(_USUAL_ERROR)),
        "no blur of the family fits the frame": _MISFIT * (fit.quality - _USUAL_MISFIT),
        "the blur is out of the family's range": _BEYOND * beyond,
    }
    reason = max(against, key=against.__getitem__)
    return Estimate(gamma, covariance, fit.quality, False, reason)
