"""Whether a fit is trusted: it becomes an estimate, with a reason if it is not.

The misfit of the best blur, its stated error and its distance from the declared range
are combined by logistic regression (`deepblur_live.blur.VerdictModel`,
docs/decisions/0095-verdict.md). A frame that fits worse than well identified frames do
is not trusted however small the stated error: that error assumes that the model holds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, VerdictModel
    from deepblur_live.identification.fit import Fit

__all__ = ["MIN_BINS", "features", "judge", "no_signal", "refusal"]

MIN_BINS = 15
"""With fewer frequencies above the noise there is nothing to fit."""

_UNLIKE = "no blur of the family fits the frame"


def no_signal(family: BlurFamily) -> Estimate:
    """Return the estimate for a frame in which no signal exceeds the noise."""
    covariance = np.diag(np.square(family.prior.scale))
    reason = "no signal above the noise"
    return Estimate(family.prior.mean.copy(), covariance, float("inf"), False, reason)


def features(
    family: BlurFamily,
    coefficients: NDArray[np.float64],
    covariance: NDArray[np.float64],
    model: VerdictModel,
) -> tuple[float, float]:
    """Return the features of the verdict other than the misfit.

    Parameters
    ----------
    family
        The blurs.
    coefficients, covariance
        (P,) and (P, P) of a `Fit`.
    model
        Limits of the features.

    Returns
    -------
    error
        Logarithm of the root mean square error over the prior scale.
    beyond
        Distance beyond the admissible set, as its gauge.
    """
    prior = family.prior
    error = math.sqrt(float(np.mean(np.diag(covariance) / prior.scale**2)))
    gauge = float(prior.admissible.gauge(coefficients))
    beyond = max(0.0, gauge - model.range_tolerance)
    return math.log(max(error, model.least_error)), beyond


def judge(family: BlurFamily, fit: Fit) -> Estimate:
    """Return the chosen minimum as an estimate, with the reason if not trusted."""
    gamma, covariance = fit.coefficients[0], fit.covariance
    if not (np.isfinite(gamma).all() and np.isfinite(covariance).all()):
        return replace(no_signal(family), reason="the fit is not finite")
    model = fit.error_model.verdict
    error, beyond = features(family, gamma, covariance, model)
    reason = refusal(model, fit.quality, error, beyond)
    return Estimate(gamma, covariance, fit.quality, not reason, reason)


def refusal(model: VerdictModel, quality: float, error: float, beyond: float) -> str:
    """Return why a fit is not trusted, or "".

    Parameters
    ----------
    model
        The verdict's constants.
    quality
        `Fit.quality`.
    error, beyond
        From `features`.
    """
    odds = (
        model.intercept
        - model.misfit * quality
        - model.error * error
        - model.beyond * beyond
    )
    fits = quality <= model.poor_misfit
    if odds > 0 and fits and error < math.log(model.largest_error):
        return ""
    against = {
        "the blur is too uncertain": model.error
        * (error - math.log(model.usual_error)),
        _UNLIKE: (model.misfit * (quality - model.usual_misfit)),
        "the blur is outside the family's range": model.beyond * beyond,
    }
    return max(against, key=against.__getitem__) if fits else _UNLIKE
