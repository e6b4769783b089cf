"""The prior on the coefficients of a field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.prior import Box, Prior

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.blur.field_basis import FieldTerm
    from deepblur_live.blur.zernike import ZernikeFamily

__all__ = ["field_prior"]

# Standard deviation of a varying term of nodal aberration theory, over its mode's.
_VARIATION = 0.5


def field_prior(
    local: ZernikeFamily, terms: Sequence[FieldTerm], remainder: float
) -> Prior:
    """Return a prior of mean zero.

    Parameters
    ----------
    local
        The family at one place: constant terms have the prior of their mode.
    terms
        Of the field. Those that vary have half the standard deviation, scale and range
        of their mode.
    remainder
        Standard deviation, in waves rms, of the others: those that nodal aberration
        theory does not have.
    """
    sigma, half, scale = np.empty((3, len(terms)))
    for p, term in enumerate(terms):
        mode = local.noll.index(term.mode)
        sigma[p] = np.sqrt(local.prior.covariance[mode, mode])
        half[p], scale[p] = local.half_ranges[mode], local.prior.scale[mode]
        if term.order:
            share = _VARIATION if term.nodal else remainder / sigma[p]
            sigma[p], half[p], scale[p] = (share * v[p] for v in (sigma, half, scale))
    zero = np.zeros(len(terms))
    return Prior(zero, np.diag(sigma**2), scale, Box(zero, half))
