"""How large the stated error of coefficients is, relative to the family's range."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.family import BlurFamily

__all__ = ["relative_error"]


def relative_error(family: BlurFamily, covariance: NDArray[np.float64]) -> float:
    """Return the rms error of coefficients over their prior scale.

    By the family's optional member of this name; without it the mean over the
    coefficients.

    Parameters
    ----------
    family
        The rig's blurs.
    covariance
        (P, P) of the coefficients.
    """
    member = getattr(family, "relative_error", None)
    if member is not None:
        return float(member(covariance))
    relative = np.diag(covariance) / np.square(family.prior.scale)
    return math.sqrt(float(np.mean(relative)))
