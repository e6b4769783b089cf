"""The result of a fit: local minima, and the uncertainty of the first of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from deepblur_live.blur import ErrorModel

__all__ = ["Fit"]


@dataclass(frozen=True)
class Fit:
    """Fits of one spectrum from several starts: the chosen one, then best first.

    Parameters
    ----------
    coefficients
        (S, P), in the family's unit.
    objective
        (S,) penalised robust misfit.
    curvature
        (P, P), covariance of the chosen one from its curvature alone.
    competing
        (P, P), scatter of the other minima about it, weighted by likelihood.
    quality
        Root mean square of the chosen one's weighted residuals where the specimen, not
        the noise, dominates: 0.4 to 0.8 for most specimens, more when no blur of the
        family explains the spectrum.
    error_model
        How large errors are compared with `curvature` and `competing`.
    scale
        (P,) the family's prior scale.
    nuisance
        (1, Q+1), the chosen one's specimen parameters b and noise log σ²; the next
        frame's fit starts from them.
    centre
        Objective of the prior's mean; infinite where it was not computed.
    """

    coefficients: NDArray[np.float64]
    objective: NDArray[np.float64]
    curvature: NDArray[np.float64]
    competing: NDArray[np.float64]
    quality: float
    error_model: ErrorModel
    scale: NDArray[np.float64]
    nuisance: torch.Tensor | None = None
    centre: float = math.inf

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(P, P), of the chosen minimum, calibrated to the size of actual errors."""
        model = self.error_model
        floor: NDArray[np.float64] = np.diag((model.floor * self.scale) ** 2)
        return (
            model.curvature * self.curvature + model.competing * self.competing + floor
        )
