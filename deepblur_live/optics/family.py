"""The seam every family of blurs implements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from deepblur_live.optics.operators import BlurOperator

__all__ = ["BlurFamily"]


class BlurFamily(Protocol):
    """A set of blurs A(γ) described by a few coefficients γ."""

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients P."""

    @property
    def names(self) -> Sequence[str]:
        """One name a coefficient, the field's (``"defocus"`` …)."""

    @property
    def units(self) -> str:
        """Unit of the coefficients (``"waves rms"``)."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw (n, P) coefficients from the family's range."""

    def operator(
        self,
        coefficients: torch.Tensor,
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> BlurOperator:
        """Return A(γ) on images of `shape`, differentiable in (P,) or (B, P) γ.

        `frame` is (rows, columns) of their part, at the top left, that a camera saw.
        """

    def canonical(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the representative of γ among its equivalents."""

    def equivalents(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (E, P): all γ with the same PSF, γ itself first."""

    def wavefront_rms(
        self, coefficients: NDArray[np.float64]
    ) -> NDArray[np.float64] | np.float64:
        """Return the rms wavefront error in waves over the last axis of γ."""
