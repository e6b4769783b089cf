"""What a field's fit is worth: its covariance, its verdict, and one PSF instead."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur import Estimate
from deepblur_live.identification.verdict import no_signal, refusal

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from deepblur_live.blur import ErrorModel
    from deepblur_live.blur.zernike_field import ZernikeField
    from deepblur_live.identification.field.fit import FieldFit, FieldModel

__all__ = ["covariance", "judge_field", "one_psf_estimate", "variation"]

# Variance of a joint fit's errors over that of its curvature, with the curvature of all
# terms, and factor of a cell's misfit to compare with that of a whole frame: chosen on
# validation pictures (docs/decisions/0172-errors-of-a-field.md).
_CURVATURE, _CELL_MISFIT = 1.2, 0.7
# Places, along each side, at which a field is judged.
_SIDE = 7


def covariance(
    family: ZernikeField,
    errors: ErrorModel,
    model: FieldModel,
    fit: FieldFit,
    competing: torch.Tensor,
) -> NDArray[np.float64]:
    """Return (P, P), calibrated to the size of actual errors.

    Of all terms, whichever were fitted: those that were not are unknown as well.

    Parameters
    ----------
    family, errors
        The fields, and the calibration of stated uncertainties.
    model
        Of all terms.
    fit
        The fit.
    competing
        (P, P), scatter of other minima.
    """
    floor = np.square(errors.floor * np.asarray(family.prior.scale))
    stated = _CURVATURE * fit.covariance(model)
    result: NDArray[np.float64] = (
        stated.numpy() + errors.competing * competing.numpy() + np.diag(floor)
    )
    return result


def judge_field(
    family: ZernikeField,
    errors: ErrorModel,
    coefficients: torch.Tensor,
    covariance: NDArray[np.float64],
    misfit: float,
) -> Estimate:
    """Return a field as an estimate, with the reason if it is not trusted.

    The verdict is that of one PSF, of the mean error and the largest blur over the
    frame.
    """
    found = coefficients.numpy()
    if not (np.isfinite(found).all() and np.isfinite(covariance).all()):
        refused = no_signal(family.local)
        return replace(
            one_psf_estimate(family, refused), reason="the fit is not finite"
        )
    design, local = _design(family), family.local.prior
    relative = _relative_error(family, covariance)
    gauge = float(local.admissible.gauge(design @ found).max())
    model, quality = errors.verdict, _CELL_MISFIT * misfit
    error = math.log(max(relative, model.least_error))
    beyond = max(0.0, gauge - model.range_tolerance)
    reason = refusal(model, quality, error, beyond)
    return Estimate(found, covariance, quality, not reason, reason)


def variation(
    family: ZernikeField, coefficients: torch.Tensor, covariance: NDArray[np.float64]
) -> float:
    """Return how much γ varies over the frame, over its stated error, both rms.

    The error includes that of the constant terms, which one PSF has as well.
    """
    gamma = _design(family) @ coefficients.numpy()
    deviation = (gamma - gamma.mean(0)) / family.local.prior.scale
    size = math.sqrt(float(np.square(deviation).mean()))
    return size / max(_relative_error(family, covariance), 1e-12)


@lru_cache(maxsize=4)
def _design(family: ZernikeField) -> NDArray[np.float64]:
    """Return Φ (N, M, P) at the places at which a field is judged."""
    return family.design(family.view.grid(_SIDE))


def _relative_error(family: ZernikeField, covariance: NDArray[np.float64]) -> float:
    """Return the stated error of γ, relative to the prior scale, rms over the frame."""
    design = _design(family)
    variance = (design @ covariance * design).sum(-1)
    return math.sqrt(float(np.mean(variance / np.square(family.local.prior.scale))))


def one_psf_estimate(
    family: ZernikeField,
    found: Estimate,
    field: NDArray[np.float64] | None = None,
) -> Estimate:
    """Return the estimate of one PSF as that of a constant field.

    Parameters
    ----------
    family
        The fields.
    found
        Coefficients (M,) for the whole frame.
    field
        (P, P) covariance of a field that was fitted to the same frames: that of the
        terms that vary. When None, they are taken to be zero.
    """
    into = family.constant(np.eye(family.local.n_coefficients)).T
    stated = into @ found.covariance @ into.T
    if field is not None:
        vary = np.array([term.order > 0 for term in family.terms])
        stated[np.ix_(vary, vary)] = field[np.ix_(vary, vary)]
    constant = family.constant(found.coefficients)
    return replace(found, coefficients=constant, covariance=stated)
