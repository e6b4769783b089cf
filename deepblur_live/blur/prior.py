"""What is known of γ before a frame is seen: mean, covariance, admissible set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AdmissibleSet", "Box", "Prior"]


class AdmissibleSet(Protocol):
    """A convex set of coefficients."""

    def project(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the nearest admissible coefficients (..., P)."""

    def gauge(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (...): 1 on the set's border, 0 at its centre, 2 twice as far out."""


@dataclass(frozen=True, eq=False)
class Box:
    """Coefficients within a half-width of a centre, each separately.

    Parameters
    ----------
    centre, half_width
        (P,) each, in the coefficients' unit.
    """

    centre: NDArray[np.float64]
    half_width: NDArray[np.float64]

    def project(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the nearest coefficients (..., P) in the box."""
        low, high = self.centre - self.half_width, self.centre + self.half_width
        return np.clip(coefficients, low, high)

    def gauge(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the largest distance (...) from the centre, in half-widths."""
        relative = np.abs((coefficients - self.centre) / self.half_width)
        largest: NDArray[np.float64] = relative.max(axis=-1)
        return largest


@dataclass(frozen=True, eq=False)
class Prior:
    """A family's prior on its coefficients.

    Parameters
    ----------
    mean, covariance
        (P,) and (P, P): the Gaussian prior of a fit.
    scale
        (P,) size of each coefficient's range: errors are measured relative to it.
    admissible
        Set of the γ that are possible.
    binding
        Whether an estimate outside the admissible set is replaced by the nearest one
        in it, as for a set that was learned from the microscope.
    small
        (P,) deviations from the mean that are small for a good microscope, infinite
        where none is; blurs near the mean are then likelier than the Gaussian says
        (docs/decisions/0251-prior-near-zero.md).
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    scale: NDArray[np.float64]
    admissible: AdmissibleSet
    binding: bool = False
    small: NDArray[np.float64] | None = None
