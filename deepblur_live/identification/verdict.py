"""Whether a frame has told its blur: a fit becomes an estimate, or a reason why not.

How poorly the best blur fits, how unsure the fit is, and how far out of the declared
range its blur lies each say a little of whether the answer is right; together they say
much more. Their weights are a logistic regression (``tools/fit_verdict.py``) on 981
fits of pictures of the training and validation splits (blurs in and out of range; σ
from 0.001 to 0.05; one frame or 30), of motion, gratings, and equal beads: was the PSF
SNR above 8 dB, or below 5.5. Of pictures that it had not seen it told right from wrong
with two thirds of the deviance that the misfit alone left.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.optics import Estimate, ZernikeFamily

if TYPE_CHECKING:
    from deepblur_live.identification.refine import Fit

__all__ = ["MIN_BINS", "POOR_FIT", "judge", "silent"]

POOR_FIT = 0.85
"""A misfit that 95 % of well identified frames stay below."""

MIN_BINS = 15
"""With fewer frequencies above the noise there is nothing to fit."""

# The log-odds that an answer is right: of a sure fit without misfit, and what they lose
# a unit of misfit, of log relative error, and of half-ranges beyond the range.
_ODDS, _MISFIT, _ERROR, _BEYOND = 1.41, 2.78, 1.40, 6.32
# No answer is surer than this, over half-range: the specimen's own blur is not known.
_LEAST_ERROR = 0.02
# A draw from the range has an error of 0.58: beyond this three of four were wrong.
_MAX_ERROR = 0.5
# What is usual where nothing is told well: what exceeds it most is the reason given.
_USUAL_ERROR, _USUAL_MISFIT = 0.3, 0.6


def silent(family: ZernikeFamily) -> Estimate:
    """Return what is said of a frame in which nothing rises above the noise."""
    covariance = np.diag(np.square(family.half_ranges))
    reason = "nothing in the frame rises above the noise"
    zero = np.zeros(family.n_coefficients)
    return Estimate(zero, covariance, float("inf"), False, reason)


def judge(family: ZernikeFamily, fit: Fit) -> Estimate:
    """Return the best fit as an estimate, or say why it is more likely wrong."""
    gamma, covariance = fit.coefficients[0], fit.covariance
    half = np.array(family.half_ranges)
    error = math.sqrt(float(np.mean(np.diag(covariance) / half**2)))
    beyond = max(0.0, float(np.abs(gamma / half).max()) - 1)
    error = max(error, _LEAST_ERROR)
    odds = _ODDS - _MISFIT * fit.quality - _ERROR * math.log(error) - _BEYOND * beyond
    # Also false when the fit has ended in numbers that are none.
    if odds > 0 and error < _MAX_ERROR:
        return Estimate(gamma, covariance, fit.quality)
    against = {
        "the blur is too uncertain": _ERROR * math.log(error / _USUAL_ERROR),
        "no blur of the family fits the frame": _MISFIT * (fit.quality - _USUAL_MISFIT),
        "the blur is out of the family's range": _BEYOND * beyond,
    }
    reason = max(against, key=against.__getitem__)
    return Estimate(gamma, covariance, fit.quality, False, reason)
