"""Whether the fit of a frame's beads is trusted, and how large its errors are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from deepblur_live.blur import Estimate
from deepblur_live.blur.symmetry import ResolvedBy, orbit
from deepblur_live.identification.beads.registration import shifted
from deepblur_live.identification.verdict import features

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, VerdictModel
    from deepblur_live.identification.beads.fit import BeadFit
    from deepblur_live.identification.beads.model import BeadModel

__all__ = [
    "LARGEST_MISFIT",
    "Evidence",
    "evidence",
    "half_ranges",
    "judge_beads",
    "refused",
]

LARGEST_MISFIT = 0.158
"""Largest misfit of a trusted fit: it explains the mean bead to 16 dB
(docs/decisions/0132-bead-verdict.md)."""

# Standard deviation of what the model's own errors do to γ, over the range of a
# coefficient: the scatter of γ between the planes of a real stack.
_MODEL_ERROR = 0.05
# Where a symmetry of the PSF does not change γ (Zernike: no even modes) the PSF depends
# on the square of the distance from there: the error of that square, as a length over
# the prior scale (docs/decisions/0132-bead-verdict.md).
_FIXED_ERROR = 0.5
# Largest scatter of competing minima, over the prior scale.
_LARGEST_SCATTER = 0.5
# Pixels of a resolution cell, over its squared full width at half maximum (Gaussian).
_CELL = 1.13


class Evidence(NamedTuple):
    """How well one blur explains the beads of a frame.

    Parameters
    ----------
    misfit
        Root mean square of what the model does not explain of the mean bead, without
        the noise, over that of the bead itself.
    excess
        Factor of the covariance for it: 1 where there is only noise.
    disagreement
        Mean squared difference of γ between the halves, over its variance.
    """

    misfit: float
    excess: float
    disagreement: float


def evidence(
    model: BeadModel, fit: BeadFit, halves: tuple[BeadFit, BeadFit]
) -> Evidence:
    """Return how well a fit explains its beads.

    What the model lacks is the same in all beads and smooth on the scale of the PSF:
    it does not average out over beads, and each of its resolution cells counts as one
    observation, not as many pixels as it has.
    """
    places = torch.from_numpy(fit.positions)
    residual = shifted(torch.from_numpy(fit.residual), -places).mean(0)
    image = model.images(
        torch.from_numpy(fit.coefficients), fit.blur, torch.zeros_like(places[:1])
    )[0]
    signal = float(fit.brightness.mean()) * image
    noise = (fit.noise.floor + fit.noise.gain * signal.clamp(min=0)) / len(places)
    square = residual.square()
    unexplained = float((square - noise).sum() / signal.square().sum())
    shared = float((square / noise).mean())
    cell = max(1.0, _CELL * model.fwhm**2)
    excess = max(1.0, float(fit.chi2.mean()), 1 + cell * (shared - 1))
    first, second = halves
    change = first.coefficients - second.coefficients
    covariance = excess * (first.covariance + second.covariance)
    disagreement = float(change @ np.linalg.solve(covariance, change)) / len(change)
    return Evidence(math.sqrt(max(0.0, unexplained)), excess, disagreement)


def judge_beads(
    family: BlurFamily,
    fit: BeadFit,
    found: Evidence,
    competing: NDArray[np.float64],
    model: VerdictModel,
) -> Estimate:
    """Return a fit of beads as an estimate, with the reason if it is not trusted.

    Parameters
    ----------
    family
        The blurs.
    fit, found
        The fit and its evidence.
    competing
        (P, P) scatter of other minima that explain the mean bead about as well.
    model
        Limits of the error and of the range.
    """
    gamma = family.canonical(fit.coefficients)
    # The covariance belongs to the fit's own choice among the equivalents.
    covariance = fit.covariance * found.excess * max(1.0, found.disagreement)
    covariance = covariance + competing
    for element in orbit(family, ResolvedBy.NEVER):
        if np.allclose(element.apply(fit.coefficients), gamma):
            covariance = element.covariance(covariance)
            break
    covariance = covariance + np.diag(np.square(_model_error(family, gamma)))
    quality = found.misfit / LARGEST_MISFIT
    if not (np.isfinite(gamma).all() and np.isfinite(covariance).all()):
        return refused(family, "the fit of the beads is not finite")
    estimate = Estimate(gamma, covariance, quality)
    error, beyond = features(family, gamma, covariance, model)
    if beyond > 0:
        reason = "the blur of the beads is outside the family's range"
    elif not quality <= 1:
        reason = "no blur of the family explains the beads"
    elif np.trace(competing / np.square(family.prior.scale)) > _LARGEST_SCATTER**2:
        reason = "different blurs explain the beads equally well"
    elif error > math.log(model.largest_error):
        reason = "the beads are too dim, or disagree"
    else:
        return estimate
    return replace(estimate, trusted=False, reason=reason)


def refused(family: BlurFamily, reason: str) -> Estimate:
    """Return the estimate for beads that do not determine the blur."""
    unknown = np.diag(np.square(family.prior.scale))
    return Estimate(family.prior.mean.copy(), unknown, math.inf, False, reason)


def _model_error(family: BlurFamily, gamma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation (P,) of γ (P,) that is the model's."""
    scale = family.prior.scale
    error = _MODEL_ERROR * half_ranges(family)
    for symmetry in orbit(family, ResolvedBy.NEVER)[1:]:
        changed = (symmetry.matrix != np.eye(len(gamma))).any(1)
        off = (gamma - symmetry.apply(gamma)) / scale
        distance = float(np.linalg.norm(off)) / 2
        slope = max(2 * distance, _FIXED_ERROR)
        error[changed] = np.maximum(error, scale * _FIXED_ERROR**2 / slope)[changed]
    return error


def half_ranges(family: BlurFamily) -> NDArray[np.float64]:
    """Return how far (P,) each coefficient alone may be from the prior's mean."""
    prior = family.prior
    units = np.eye(family.n_coefficients)
    ranges: NDArray[np.float64] = 1 / prior.admissible.gauge(prior.mean + units)
    return ranges
