"""What an identification says of the blur: coefficients, covariance, quality of fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Estimate"]


@dataclass(frozen=True)
class Estimate:
    """One identification of the blur of a frame (or of an average of frames).

    Parameters
    ----------
    coefficients
        (P,) blur coefficients γ; waves rms for Zernike families. Meaningless where
        ``trusted`` is False.
    covariance
        (P, P) covariance of `coefficients`, same units squared.
    quality
        Residual of the fit over its expected size: 0.4 to 0.8 for a good fit, more when
        the frame is outside the family.
    trusted
        False when the frame cannot tell its blur; ``reason`` then says why.
    reason
        Empty, or why the frame cannot be trusted, for a person to read.
    """

    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]
    quality: float
    trusted: bool = True
    reason: str = ""
