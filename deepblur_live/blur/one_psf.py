"""One PSF for the whole frame, as a field that is constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.zernike_field import ZernikeField

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.family import BlurFamily

__all__ = ["as_field", "local_family", "of_mean"]

# A tracked constant field varies by the rounding of the filter: 1e-19 waves.
_ROUNDING = 1e-12


def local_family(family: BlurFamily) -> BlurFamily:
    """Return the family of the PSFs at one place of a field; others as they are."""
    return family.local if isinstance(family, ZernikeField) else family


def as_field(
    family: BlurFamily,
    coefficients: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return one PSF's coefficients and covariance as those of a constant field.

    Terms that vary over the field are 0, with the uncertainty of the prior.

    Parameters
    ----------
    family
        The rig's.
    coefficients, covariance
        (M,) and (M, M), of its `local_family`.
    """
    if not isinstance(family, ZernikeField):
        return coefficients, covariance
    into = family.constant(np.eye(family.local.n_coefficients)).T
    return (
        family.constant(coefficients),
        into @ covariance @ into.T + family.prior.covariance * _varies(family),
    )


def of_mean(
    family: BlurFamily,
    coefficients: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the covariance (P, P) of the frame's mean blur, to deblur with.

    One PSF was fitted to all places of the frame at once: however the blur varies, what
    that adds to the mean PSF is in it already. The uncertainty of the terms that vary
    would widen the PSF a second time (docs/decisions/0263-mean-blur.md).

    Parameters
    ----------
    family
        The rig's.
    coefficients, covariance
        (P,) and (P, P). Those of a field that varies, and of other families, are
        returned as they are.
    """
    if not isinstance(family, ZernikeField):
        return covariance
    varies = _varies(family)
    if np.abs(coefficients[varies]).max(initial=0.0) > _ROUNDING:
        return covariance
    return np.where(varies | varies[:, None], 0.0, covariance)


def _varies(family: ZernikeField) -> NDArray[np.bool_]:
    """Return (P,) True for terms that vary over the field."""
    return np.array([term.order > 0 for term in family.terms])
