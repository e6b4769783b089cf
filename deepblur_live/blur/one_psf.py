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
    varies = np.array([term.order > 0 for term in family.terms])
    return (
        family.constant(coefficients),
        into @ covariance @ into.T + family.prior.covariance * varies,
    )
