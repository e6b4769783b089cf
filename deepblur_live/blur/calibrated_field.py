"""Calibrated blurs that vary over the frame as the microscope's own field does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from deepblur_live.blur.calibrated import CalibratedZernikeFamily
from deepblur_live.blur.marginal import marginal_change
from deepblur_live.blur.tiled import GRID, TiledBlur, as_grid, grid_weights, on_grid

__all__ = ["CalibratedField"]


@dataclass(frozen=True)
class CalibratedField(CalibratedZernikeFamily):
    """Calibrated blurs whose modes differ by a known amount at each place of the frame.

    At a place x the modes are γ(x) = mean + basis · c + offset(x). What is identified,
    and drifts, is c, the same in the whole frame; the offsets, of mean zero over the
    frame, are those of the calibration. Everything but the operator, and the PSF at a
    position, is that of the mean over the frame, as one spectrum of it is identified.

    Parameters
    ----------
    offsets
        Of the M modes at the GRID² places of `grid_positions`, row by row, waves rms.

    Raises
    ------
    ValueError
        When there is not one offset for each place and mode.
    """

    offsets: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        """Check that the offsets match the grid and the modes."""
        super().__post_init__()
        shape = np.shape(self.offsets)
        if shape != (GRID**2, len(self.local.noll)):
            raise ValueError(
                f"offsets of shape {shape}: must be {(GRID**2, len(self.local.noll))}"
            )

    def _local(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> torch.Tensor:
        """Return γ (..., M) of c (..., P) at a position; without one the mean."""
        modes = super()._local(coefficients)
        if position is None:
            return modes
        offset = grid_weights(position).ravel() @ np.array(self.offsets)
        return modes + torch.from_numpy(offset).to(modes)

    def kernels(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the PSFs (..., N, N, K, K) of c (..., P) at `grid_positions`."""
        offsets = torch.tensor(self.offsets, dtype=torch.float64).to(coefficients)
        psfs = self.local.psf(self._local(coefficients)[..., None, :] + offsets)
        return (as_grid(psfs),)

    def expected_kernels(
        self, coefficients: torch.Tensor, covariance: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the grid's expected PSFs, and the autocorrelations of deviations.

        As `ZernikeField.expected_kernels`; what the covariance (..., P, P) adds is
        computed for the mean over the frame.
        """
        basis = torch.from_numpy(self.learned.basis).to(covariance)
        change, spread = marginal_change(
            self.local.coarse().psf,
            self._local(coefficients)[..., None, :],
            (basis @ covariance @ basis.mT)[..., None, :, :],
        )
        (psfs,) = self.kernels(coefficients)
        return psfs + on_grid(change), on_grid(spread)

    def describe(self) -> str:
        """Return what the family was learned from, and that it varies."""
        # Places at the frame's edges represent half a cell.
        line = np.ones(GRID)
        line[[0, -1]] = 0.5
        share = np.outer(line, line).ravel() / line.sum() ** 2
        rms = float(np.sqrt(share @ np.square(self.offsets).sum(1)))
        return (
            f"varies over the frame by {rms * self.local.wavelength_nm:.0f} nm rms as "
            f"calibrated; {super().describe()}"
        )

    def operator_from(
        self,
        kernels: tuple[torch.Tensor, ...],
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> TiledBlur:
        """Return the blur with the grid of PSFs that `kernels` holds."""
        psfs, *spread = kernels
        return TiledBlur(psfs, shape, frame, *spread)
