"""What a fit of a spectrum has found: minima, and how sure the first of them is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["Fit"]

# What curvature and rivals are of the squared errors, and the error in waves that no
# frame is without: chosen on 398 answers to single frames of training and validation
# pictures, for intervals that hold what they say. At σ = 0.001, 0.01, 0.03 and 0.05 67,
# 70, 67 and 68 % of their coefficients are inside the 68 % intervals; what the others
# hold is in their tails (`deepblur_live.optics.reach`).
_CURVATURE, _RIVALS, _LEAST = 0.40, 1.0, 0.0012


@dataclass(frozen=True)
class Fit:
    """Fits of one spectrum from several starts: the chosen one, then best first.

    Parameters
    ----------
    coefficients
        (S, P), waves rms.
    objective
        (S,) penalised robust misfit.
    curvature
        (P, P), the covariance of the chosen one were it alone.
    rivals
        (P, P), the spread of the others about it, as far as they are believed.
    quality
        Root mean square of the chosen one's weighted residuals, where the specimen and
        not the noise makes the power: 0.4 to 0.8 for most specimens, more when none of
        the family's blurs explains the spectrum.
    rest
        (1, Q+1), the chosen one's specimen b and noise log σ²: the next frame's fit
        begins there.
    """

    coefficients: NDArray[np.float64]
    objective: NDArray[np.float64]
    curvature: NDArray[np.float64]
    rivals: NDArray[np.float64]
    quality: float
    rest: torch.Tensor | None = None

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(P, P), of the chosen one among its rivals, as large as errors have been."""
        least: NDArray[np.float64] = _LEAST**2 * np.eye(len(self.curvature))
        return _CURVATURE * self.curvature + _RIVALS * self.rivals + least
