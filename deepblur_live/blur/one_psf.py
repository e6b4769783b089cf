"""One PSF for the whole frame, as a field that is constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.zernike_field import ZernikeField

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.family import BlurFamily

__all__ = ["as_field", "local_family"]


def local_family(family: BlurFamily) -> BlurFamily:
    """Return the family of the PSFs at one place of a field; others as they are."""
    return family.local if isinstance(family, ZernikeField) else family


def as_field(
    family: BlurFamily,
    coefficients: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coefficients (P,) and covariance (P, P) of what is known of one PSF.

    The terms of a field that vary are 0 and as uncertain as beforehand.

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
    varies = np.array([term.order > 0 for term in family.terms])
    return (
        family.constant(coefficients),
        into @ covariance @ into.T + family.prior.covariance * varies,
    )
