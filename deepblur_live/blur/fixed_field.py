"""Measured PSFs that vary over the frame, as a family without coefficients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.fixed_psf import FixedPsf
from deepblur_live.blur.tiled import GRID, TiledBlur, grid_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.operator import LinearBlur

__all__ = ["FixedField"]

_NO_GRID = np.zeros((0, 0, 0, 0))


@dataclass(frozen=True, eq=False)
class FixedField(FixedPsf):
    """PSFs at places of the frame, taken as exact, and interpolated between; P = 0.

    Parameters
    ----------
    grid
        (GRID, GRID, K, K) PSFs at `grid_positions`, each not negative, of sum 1.
        `image` represents all of them where one PSF is shown or measured.

    Raises
    ------
    ValueError
        When a PSF is not finite, negative somewhere, or does not sum to 1.
    """

    grid: NDArray[np.float64] = field(default_factory=lambda: _NO_GRID)

    def __post_init__(self) -> None:
        """Check that all PSFs have the same size."""
        super().__post_init__()
        shape = (GRID, GRID, *self.image.shape)
        if self.grid.shape != shape:
            raise ValueError(f"PSFs of shape {self.grid.shape}: must be {shape}")
        sums = self.grid.sum((2, 3))
        if not np.isfinite(self.grid).all() or self.grid.min() < 0:
            raise ValueError("PSFs: must be finite and not negative")
        if np.abs(sums - 1).max() > 1e-6:
            raise ValueError("PSFs: must have the sum 1")

    def __eq__(self, other: object) -> bool:
        """Return whether the PSFs and the cut-off are the same."""
        same = isinstance(other, FixedField) and np.array_equal(self.grid, other.grid)
        return same and super().__eq__(other)

    def __hash__(self) -> int:
        """Return a hash of the PSFs."""
        return hash((self.grid.tobytes(), self.optics_cutoff))

    def psf(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> torch.Tensor:
        """Return the PSF (..., K, K) for coefficients (..., 0)."""
        if position is None:
            return super().psf(coefficients)
        own = np.einsum("ij,ijkl->kl", grid_weights(position), self.grid)
        psf = torch.from_numpy(own).to(coefficients)
        return psf.expand(*coefficients.shape[:-1], *psf.shape)

    def kernels(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the PSFs (..., N, N, K, K) at `grid_positions`."""
        grid = torch.from_numpy(self.grid).to(coefficients)
        return (grid.expand(*coefficients.shape[:-1], *grid.shape),)

    def operator_from(
        self,
        kernels: tuple[torch.Tensor, ...],
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> LinearBlur:
        """Return the blur with the grid of PSFs that `kernels` holds."""
        return TiledBlur(kernels[0], shape, frame)

    def describe(self) -> str:
        """Return where the PSFs come from, and what they do not do."""
        return (
            f"fixed PSFs {self.origin}, {self.window} × {self.window} pixels, which "
            "vary over the frame: nothing is identified and no drift is followed"
        )
