"""The seam of families: a set of blurs A(γ) described by a few coefficients γ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from deepblur_live.blur.diagnosis import Cause, ChangeShape
    from deepblur_live.blur.operator import LinearBlur
    from deepblur_live.blur.prior import Prior
    from deepblur_live.blur.symmetry import Symmetry
    from deepblur_live.profile import Optics

__all__ = ["BlurFamily", "ChangeMetric", "Quality"]


@dataclass(frozen=True)
class Quality:
    """One number that says how good a blur is, such as the Strehl ratio.

    Parameters
    ----------
    name, value, unit
        The unit is empty for a ratio.
    display_unit, display_scale
        A second unit for the user, and how many of it are one `unit`; may be empty.
    reference
        A value to compare with, drawn with the curve; None if there is none.
    """

    name: str
    value: float
    unit: str = ""
    display_unit: str = ""
    display_scale: float = 1.0
    reference: float | None = None

    @property
    def value_text(self) -> str:
        """The value with its units, such as ``"93 nm (0.173 waves)"``."""
        text = f"{_digits(self.value)} {self.unit}".rstrip()
        if not self.display_unit:
            return text
        return (
            f"{_digits(self.value * self.display_scale)} {self.display_unit} ({text})"
        )

    @property
    def text(self) -> str:
        """Name and value, for the user."""
        return f"{self.name} {self.value_text}"

    @property
    def column(self) -> str:
        """Name of its column in the drift log."""
        return f"{self.name} {self.unit}".strip().replace(" ", "_").lower()


def _digits(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"


@dataclass(frozen=True, eq=False)
class ChangeMetric:
    """The size of a change of the coefficients: √(ΔᵀMΔ).

    Parameters
    ----------
    matrix
        M, (P, P).
    unit
        Unit of the size.
    display_unit, display_scale
        What a user reads, and how many of it are one `unit`.
    display_digits
        Decimal places of what a user reads.
    """

    matrix: NDArray[np.float64]
    unit: str
    display_unit: str
    display_scale: float = 1.0
    display_digits: int = 3

    def size(self, change: NDArray[np.float64]) -> float:
        """Return the size of a change (P,)."""
        return math.sqrt(max(0.0, float(change @ self.matrix @ change)))

    def show(self, size: float, sigma: float | None = None) -> str:
        """Return a size, and its standard deviation, in the display unit."""
        value, unit, digits = (
            size * self.display_scale,
            self.display_unit,
            self.display_digits,
        )
        if sigma is None:
            return f"{value:.{digits}f} {unit}"
        return f"{value:.{digits}f} ± {sigma * self.display_scale:.{digits}f} {unit}"


class BlurFamily(Protocol):
    """A set of blurs A(γ) described by P coefficients γ.

    A new family is one file: a class with these members, named in a profile by
    ``model.family = "package.module:Class"`` (see `deepblur_live.blur.registry`). It
    must be hashable, as tables made from it are cached, and picklable.

    Five more members are optional: `focus_direction`, (P,) or None, the change of γ
    per micrometre of defocus, without which there are no focus sweeps (see
    `deepblur_live.blur.focus`); `extra_blur`, the Gaussian in all PSFs (see
    `deepblur_live.blur.extra_blur`); ``expected_kernels(coefficients,
    covariance)``, the kernels of the expected operator of an uncertain γ, without which
    γ counts as exact (see `deepblur_live.blur.marginal`);
    ``relative_error(covariance)`` (see `deepblur_live.blur.relative_error`); and
    `widened`, for a family with a learned prior (see `deepblur_live.blur.wide_prior`).

    Everything up to `operator_from` is local: the PSF at one place of the field, as an
    identification sees it in a part of the frame.
    """

    @classmethod
    def from_optics(cls, optics: Optics) -> BlurFamily:
        """Return the family for a profile's optics."""

    def __hash__(self) -> int: ...

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients P."""

    @property
    def names(self) -> tuple[str, ...]:
        """One name per coefficient, as a user reads it (``"defocus"`` …)."""

    @property
    def unit(self) -> str:
        """Unit of the coefficients (``"waves rms"``)."""

    @property
    def window(self) -> int:
        """Side K of the PSF in pixels, odd."""

    @property
    def cutoff(self) -> float:
        """Coherent cut-off frequency, cycles per pixel: the OTF is 0 beyond twice it.

        0.25 or more where the OTF reaches all frequencies.
        """

    @property
    def prior(self) -> Prior:
        """What is known of γ beforehand."""

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """Generators of the coefficients' symmetries."""

    @property
    def metric(self) -> ChangeMetric:
        """The size of a change, with its unit."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw (n, P) coefficients from the family's range."""

    def search_points(
        self, n: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw (n, P) coefficients where a search without prior knowledge begins."""

    def psf(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> torch.Tensor:
        """Return the local PSF (..., K, K) of γ (..., P), sum 1, differentiable.

        `position` is a place of the field, (row, column) from 0 to 1; its centre when
        None.
        """

    def psf_and_jacobian(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the local PSF (..., K, K) and its derivatives (..., P, K, K) in γ."""

    def coarse(self) -> BlurFamily:
        """Return a cheaper family with nearly the same PSFs, for fits; or itself."""

    def kernels(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the tensors that A(γ) is made of, differentiable in γ (P,) or (B, P).

        Their shapes do not depend on γ.
        """

    def operator_from(
        self,
        kernels: tuple[torch.Tensor, ...],
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> LinearBlur:
        """Return the operator made of kernels, on images (H, W).

        `frame` is (rows, columns) of the camera's frame, in their middle
        (`deepblur_live.optics.frame_part`); the rest is its extension.
        """

    def operator(
        self,
        coefficients: torch.Tensor,
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> LinearBlur:
        """Return A(γ): `operator_from` of `kernels`."""

    def canonical(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the representative (..., P) of γ among those with the same PSF."""

    def quality(self, coefficients: NDArray[np.float64]) -> tuple[Quality, ...]:
        """Return how good the blur of γ (P,) is, the most informative number first."""

    def diagnose(self, change: NDArray[np.float64], shape: ChangeShape) -> Cause:
        """Return the likely cause of a change (P,), given its shape over time."""

    def describe(self) -> str:
        """Return what a user should know about the family, such as its limits."""
