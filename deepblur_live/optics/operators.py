"""The blur as a linear operator: forward, adjoint, a gradient step in two FFTs."""

from __future__ import annotations

from typing import Protocol

import torch

from deepblur_live.optics.borders import seen

__all__ = ["BlurOperator", "Convolution"]


class BlurOperator(Protocol):
    """A linear blur A(γ) on images of one shape, batched over leading dimensions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return A x, (..., H, W)."""

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Return Aᵀ y, (..., H, W)."""

    def right_side(self, y: torch.Tensor) -> torch.Tensor:
        """Return what `gradient_step` needs of y, computed once a frame."""

    def gradient_step(
        self, z: torch.Tensor, right_side: torch.Tensor, step: torch.Tensor | float
    ) -> torch.Tensor:
        """Return z - step · Aᵀ(A z - y)."""


class Convolution:
    """Periodic convolution with a PSF.

    Parameters
    ----------
    psf
        (..., K, K), K odd, centred; real. Gradients flow through it.
    shape
        (H, W) of the images; at least K each.
    frame
        (rows, columns) of the part of the images, at their top left, that a camera has
        seen; the rest continues it. All of it when None.

    Raises
    ------
    ValueError
        When the PSF is larger than the images, or its sides are even.
    """

    def __init__(
        self,
        psf: torch.Tensor,
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> None:
        rows, columns = psf.shape[-2:]
        if rows % 2 == 0 or columns % 2 == 0:
            raise ValueError(f"a PSF has odd sides, got {rows} × {columns}")
        if rows > shape[0] or columns > shape[1]:
            raise ValueError(
                f"the PSF of {rows} × {columns} pixels does not fit into an image of "
                f"{shape[0]} × {shape[1]}; pad the image to at least the PSF's size"
            )
        self.shape = shape
        # As `rfft2` of the PSF in an image of zeros, whose rows need no transform.
        pad = torch.nn.functional.pad
        along = pad(psf, (0, shape[1] - columns)).roll(-(columns // 2), -1)
        half = pad(torch.fft.rfft(along), (0, 0, 0, shape[0] - rows))
        self.otf: torch.Tensor = torch.fft.fft(half.roll(-(rows // 2), -2), dim=-2)
        self.power = self.otf.real.square().addcmul_(self.otf.imag, self.otf.imag)
        self._seen = None if frame is None else seen(shape, frame, psf)

    @staticmethod
    def _transform(x: torch.Tensor) -> torch.Tensor:
        spectrum: torch.Tensor = torch.fft.rfft2(x)
        return spectrum

    def _apply(self, spectrum: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = torch.fft.irfft2(spectrum, s=self.shape)
        return image

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return h ⋆ x, (..., H, W)."""
        return self._apply(self._transform(x) * self.otf)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Return the correlation of y with h, (..., H, W)."""
        return self._apply(self.right_side(y))

    def right_side(self, y: torch.Tensor) -> torch.Tensor:
        """Return conj(ĥ)·ŷ, (..., H, W // 2 + 1)."""
        return self._transform(y) * self.otf.conj()

    def gradient_step(
        self, z: torch.Tensor, right_side: torch.Tensor, step: torch.Tensor | float
    ) -> torch.Tensor:
        """Return z - step·F⁻¹(|ĥ|²·Fz - conj(ĥ)·Fy): two real FFTs, not four."""
        spectrum = self._transform(z)
        if torch.is_grad_enabled() or spectrum.shape != right_side.shape:
            return z - step * self._apply(self.power * spectrum - right_side)
        # The same numbers without fresh memory, which costs half the time.
        change = self._apply(spectrum.mul_(self.power).sub_(right_side))
        return z - change.mul_(step)

    def seen(self, residual: torch.Tensor) -> torch.Tensor:
        """Return a residual (..., H, W), zero where the image was only continued."""
        return residual if self._seen is None else residual * self._seen

    def wiener(self, y: torch.Tensor, balance: float | torch.Tensor) -> torch.Tensor:
        """Return F⁻¹(conj(ĥ)·ŷ / (|ĥ|² + balance)), (..., H, W)."""
        return self.solve(self.right_side(y), balance)

    def solve(
        self, right_side: torch.Tensor, balance: float | torch.Tensor
    ) -> torch.Tensor:
        """Return `wiener` of what has this `right_side`, (..., H, W)."""
        return self._apply(right_side / (self.power + balance))

    def spectral_mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean over all frequencies of (..., H, W // 2 + 1), (..., 1, 1)."""
        # Half of the spectrum stands for all, but its first column, and of an even
        # width the last, for themselves. Nothing is written in place: a CUDA graph
        # cannot record the copy of a number.
        total = 2 * values.sum((-2, -1), keepdim=True)
        total = total - values[..., :1].sum((-2, -1), keepdim=True)
        if self.shape[1] % 2 == 0:
            total = total - values[..., -1:].sum((-2, -1), keepdim=True)
        mean: torch.Tensor = total / (self.shape[0] * self.shape[1])
        return mean
