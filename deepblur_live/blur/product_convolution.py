"""Product-convolution: a blur that varies over the field, as a few convolutions.

A reference and a simulator for blurs that vary over the field, and the form that a
blur calibrated with beads takes. Where speed matters `TiledBlur` is used.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline

from deepblur_live.blur.operator import prox_by_conjugate_gradient
from deepblur_live.optics.borders import frame_mask, frame_part
from deepblur_live.optics.otf import otf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.family import BlurFamily

__all__ = ["Order", "ProductConvolution", "eigen_psfs", "mixed_maps"]

# PSFs along each side of the field from which eigen-PSFs are computed.
_GRID = 21


class Order(StrEnum):
    """Whether maps apply before the convolutions or after them.

    With PSF_x = Σ_i w_i(x)·h_i of the place x, and a point source at r imaged at s.
    """

    MULTIPLY_FIRST = "multiply, then convolve"
    """y = Σ_i h_i ⋆ (w_i x): light from r spreads by the PSF there, PSF_r(s - r), as in
    an optical instrument."""
    CONVOLVE_FIRST = "convolve, then multiply"
    """y = Σ_i w_i (h_i ⋆ x): a pixel s collects light by its own PSF, PSF_s(s - r)."""


class ProductConvolution:
    """A blur Σ_i h_i ⋆ (w_i x) or Σ_i w_i (h_i ⋆ x) on periodic images.

    Parameters
    ----------
    psfs
        h (..., I, K, K), K odd, centred.
    maps
        w (..., I, H, W).
    order
        Which of the two it is.
    frame
        (rows, columns) of the camera's frame, in the middle of the images
        (`frame_part`). The whole image when None.

    Raises
    ------
    ValueError
        When there is not one map for each PSF, or the PSFs are larger than the images.

    References
    ----------
    Escande & Weiss, *Approximation of integral operators using product-convolution
    expansions*, J. Math. Imaging Vis. 58, 2017.
    """

    def __init__(
        self,
        psfs: torch.Tensor,
        maps: torch.Tensor,
        order: Order = Order.MULTIPLY_FIRST,
        frame: tuple[int, int] | None = None,
    ) -> None:
        if psfs.shape[-3] != maps.shape[-3]:
            raise ValueError(f"{psfs.shape[-3]} PSFs, but {maps.shape[-3]} maps")
        self.shape = maps.shape[-2], maps.shape[-1]
        self.maps, self.order = maps, order
        self.otf = otf(psfs, self.shape)
        self.mask = None if frame is None else frame_mask(self.shape, frame, psfs)

    @classmethod
    def of_family(
        cls,
        family: BlurFamily,
        coefficients: torch.Tensor,
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
        count: int = 32,
        order: Order = Order.MULTIPLY_FIRST,
        grid: int = _GRID,
    ) -> ProductConvolution:
        """Return the blur of a family's γ (P,) with some eigen-PSFs (`eigen_psfs`).

        They are those of grid × grid PSFs, and their maps bicubic splines. `shape` and
        `frame` as in `BlurFamily.operator`; beyond the frame PSFs vary further.
        """
        parts = frame_part(shape, shape if frame is None else frame)
        lines = [
            (np.arange(size) + 0.5 - part.start) / (part.stop - part.start)
            for size, part in zip(shape, parts, strict=True)
        ]
        rows, columns = (np.linspace(line[0], line[-1], grid) for line in lines)
        psfs, values = eigen_psfs(family, coefficients, rows, columns, count)
        maps = np.stack(
            [RectBivariateSpline(rows, columns, value)(*lines) for value in values]
        )
        return cls(psfs, torch.from_numpy(maps).to(psfs), order, frame)

    def _transform(self, x: torch.Tensor) -> torch.Tensor:
        spectrum: torch.Tensor = torch.fft.rfft2(x)
        return spectrum

    def _inverse(self, spectrum: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = torch.fft.irfft2(spectrum, s=self.shape)
        return image

    def _gathered(self, x: torch.Tensor, transfer: torch.Tensor) -> torch.Tensor:
        """Return the spectrum of Σ_i k_i ⋆ (w_i x), by I FFTs."""
        products = self._transform(self.maps * x[..., None, :, :])
        return (transfer * products).sum(-3)

    def _spread(self, spectrum: torch.Tensor, transfer: torch.Tensor) -> torch.Tensor:
        """Return Σ_i w_i (k_i ⋆ x) of the spectrum of x, by I FFTs."""
        images = self._inverse(transfer * spectrum[..., None, :, :])
        return (self.maps * images).sum(-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return A x, (..., H, W)."""
        if self.order is Order.MULTIPLY_FIRST:
            return self._inverse(self._gathered(x, self.otf))
        return self._spread(self._transform(x), self.otf)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Return Aᵀ y, (..., H, W)."""
        if self.order is Order.MULTIPLY_FIRST:
            return self._spread(self._transform(y), self.otf.conj())
        return self._inverse(self._gathered(y, self.otf.conj()))

    def prepare(self, y: torch.Tensor) -> torch.Tensor:
        """Return the spectrum of y, or y itself where maps apply to it first."""
        return self._transform(y) if self.order is Order.MULTIPLY_FIRST else y

    def gradient_step(
        self, z: torch.Tensor, prepared: torch.Tensor, step: torch.Tensor | float
    ) -> torch.Tensor:
        """Return z - step·Aᵀ(A z - y), by 2I real FFTs (and two for the other order).

        The sum over i of A z stays in Fourier space, and Aᵀ begins there.
        """
        if self.order is Order.MULTIPLY_FIRST:
            residual = self._gathered(z, self.otf) - prepared
            return z - step * self._spread(residual, self.otf.conj())
        return z - step * self.adjoint(self.forward(z) - prepared)

    def prox_data(
        self,
        z: torch.Tensor,
        y: torch.Tensor,
        weight: torch.Tensor,
        typical_error: float | None = None,
    ) -> torch.Tensor:
        """Return the proximal step by ten conjugate gradients, from z on."""
        return prox_by_conjugate_gradient(self, z, y, weight)


def eigen_psfs(
    family: BlurFamily,
    coefficients: torch.Tensor,
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    count: int,
) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """Return eigen-PSFs (I, K, K), orthonormal, and their shares (I, R, C) of PSFs.

    Parameters
    ----------
    family, coefficients
        The blurs, and γ (P,).
    rows, columns
        Positions (R,) and (C,) in the frame whose R × C PSFs are decomposed.
    count
        Number of eigen-PSFs I, the strongest.
    """
    psfs = torch.stack(
        [family.psf(coefficients, (row, column)) for row in rows for column in columns]
    )
    flat = psfs.double().flatten(1)
    # The eigenvectors of PSFs' scalar products: fewer PSFs than pixels.
    values, vectors = torch.linalg.eigh(flat @ flat.mT)
    strongest = vectors[:, -count:].flip(1) / values[-count:].flip(0).sqrt()
    eigen = strongest.mT @ flat
    shares = (eigen @ flat.mT).view(count, len(rows), len(columns))
    return eigen.to(psfs).view(count, *psfs.shape[1:]), shares.numpy()


def mixed_maps(maps: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Return the maps (..., I, H, W) of A(γ) = Σ_p γ_p A_p for γ (..., P).

    Of operators A_p with the same PSFs and maps (P, I, H, W): the FFTs of A(γ) are no
    more than those of one A_p.
    """
    return torch.einsum("...p,pihw->...ihw", coefficients, maps)
