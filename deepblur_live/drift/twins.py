"""Blurs that no image can tell apart: the sign changes that leave the PSF as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.optics.family import BlurFamily

__all__ = ["nearest_twin", "twin_signs"]


def twin_signs(family: BlurFamily) -> NDArray[np.float64]:
    """Return (E, P) signs: γ multiplied by any row has the PSF of γ.

    Zernike families have two rows: all ones, and the flip of all even modes together.
    The signs do not depend on γ, so one look at the family serves a session.

    Raises
    ------
    ValueError
        The family's equivalents are not sign changes: a tracker could not transform
        a covariance by them.
    """
    signs = np.atleast_2d(family.equivalents(np.ones(family.n_coefficients)))
    if signs.shape[1] != family.n_coefficients or not np.all(np.abs(signs) == 1.0):
        raise ValueError(
            "twins must be sign changes of the coefficients, each row of "
            f"family.equivalents(ones) made of 1 and -1; got {signs.tolist()}"
        )
    return signs


def nearest_twin(
    signs: NDArray[np.float64],
    coefficients: NDArray[np.float64],
    reference: NDArray[np.float64],
    weights: NDArray[np.float64] | float = 1.0,
) -> NDArray[np.float64]:
    """Return the twin of γ nearest to `reference`.

    Parameters
    ----------
    signs
        (E, P), from :func:`twin_signs`.
    coefficients, reference
        (P,) each.
    weights
        (P,) weights of the squared differences.
    """
    twins = signs * coefficients
    squares = np.sum(weights * (twins - reference) ** 2, axis=1)
    nearest: NDArray[np.float64] = twins[int(np.argmin(squares))]
    return nearest
