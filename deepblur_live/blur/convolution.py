"""Convolution with one PSF: forward, adjoint, gradient and proximal step by FFT."""

from __future__ import annotations

import torch

from deepblur_live.optics.borders import frame_mask
from deepblur_live.optics.otf import otf

__all__ = ["Convolution", "bounded_ratio"]

# Bounds on how much the squared error of an image may exceed what is typical, when it
# is measured from the residual.
_LEAST_RATIO, _LARGEST_RATIO = 0.25, 30.0


class Convolution:
    """Periodic convolution with a PSF.

    Parameters
    ----------
    psf
        (..., K, K), K odd, centred; real. Differentiable.
    shape
        (H, W) of the images; at least K each.
    frame
        (rows, columns) of the camera's frame, in the middle of the images
        (`frame_part`); the rest is its extension. The whole image when None.
    spread
        (..., 2K - 1, 2K - 1) autocorrelation of what is uncertain of the PSF, from
        `marginal_kernels`; the PSF is then the expected one. None when it is known.

    Attributes
    ----------
    otf, power
        (..., H, W // 2 + 1) the transfer function ĥ, and |ĥ|²; of an uncertain PSF,
        their expectations.

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
        spread: torch.Tensor | None = None,
    ) -> None:
        self.shape = shape
        # Contiguous, like an image's spectrum: with any other layout each step takes
        # longer.
        self.otf = otf(psf, shape).contiguous()
        self.power = self.otf.real.square().addcmul_(self.otf.imag, self.otf.imag)
        self._variance: torch.Tensor | None = None
        if spread is not None:
            # Rounding can make a mean square negative.
            variance = _wrapped_transfer(spread, shape).real.clamp(min=0)
            self._variance = variance.contiguous()
            self.power = self.power + self._variance
        # Computed once for steps without autograd; each step would otherwise repeat it.
        self._adjoint: torch.Tensor | None = None
        self._real_power: torch.Tensor | None = None
        if not torch.is_grad_enabled():
            self._adjoint = self.otf.conj().resolve_conj()
            # One copy each for the real and the imaginary part.
            self._real_power = torch.stack([self.power, self.power], -1)
        self.mask = None if frame is None else frame_mask(shape, frame, psf)
        # The mask applies once to the residual, so twice to its power.
        self._share = 1.0 if self.mask is None else self.mask.square().mean()

    @staticmethod
    def _transform(x: torch.Tensor) -> torch.Tensor:
        spectrum: torch.Tensor = torch.fft.rfft2(x)
        return spectrum

    def _inverse(self, spectrum: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = torch.fft.irfft2(spectrum, s=self.shape)
        return image

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return h ⋆ x, (..., H, W)."""
        return self._inverse(self._transform(x) * self.otf)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """Return the correlation of y with h, (..., H, W)."""
        return self._inverse(self.prepare(y))

    def prepare(self, y: torch.Tensor) -> torch.Tensor:
        """Return the spectrum of Aᵀ y, conj(ĥ)·ŷ, (..., H, W // 2 + 1)."""
        if torch.is_grad_enabled() or self._adjoint is None:
            return self._transform(y) * self.otf.conj()
        spectrum = self._transform(y)
        if spectrum.shape != self._adjoint.shape:
            return spectrum * self._adjoint
        return spectrum.mul_(self._adjoint)

    def gradient_step(
        self, z: torch.Tensor, prepared: torch.Tensor, step: torch.Tensor | float
    ) -> torch.Tensor:
        """Return z - step·F⁻¹(|ĥ|²·Fz - conj(ĥ)·Fy): two real FFTs, not four."""
        change, step = self.descent(z, prepared), step / self.pixels
        if isinstance(step, torch.Tensor):
            return z + step * change
        return torch.add(z, change, alpha=step)

    @property
    def pixels(self) -> int:
        """Number of pixels of an image, the scale of unnormalised transforms."""
        return self.shape[0] * self.shape[1]

    def descent(self, z: torch.Tensor, prepared: torch.Tensor) -> torch.Tensor:
        """Return Aᵀ(y - A z) times `pixels`, with ``prepared = prepare(y)``.

        The caller divides by `pixels` in the step, which saves a pass over the image.
        """
        spectrum, power = self._transform(z), self._real_power
        fused = not torch.is_grad_enabled() and power is not None
        if fused and spectrum.shape == prepared.shape == self.power.shape:
            assert power is not None
            # In one pass over real numbers, and in place.
            parts = torch.view_as_real(spectrum)
            known = torch.view_as_real(prepared)
            torch.addcmul(known, parts, power, value=-1, out=parts)
        else:
            spectrum = prepared - self.power * spectrum
        return self._unscaled(spectrum)

    def _unscaled(self, spectrum: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = torch.fft.irfft2(spectrum, s=self.shape, norm="forward")
        return image

    def wiener(self, y: torch.Tensor, balance: float | torch.Tensor) -> torch.Tensor:
        """Return F⁻¹(conj(ĥ)·ŷ / (|ĥ|² + balance)), (..., H, W)."""
        return self.solve(self.prepare(y), balance)

    def solve(
        self, prepared: torch.Tensor, balance: float | torch.Tensor
    ) -> torch.Tensor:
        """Return (AᵀA + balance)⁻¹ of Aᵀ y, with ``prepared = prepare(y)``."""
        # Times the reciprocal: dividing complex numbers takes three times as long.
        return self._inverse(prepared * (self.power + balance).reciprocal())

    def _masked(self, image: torch.Tensor) -> torch.Tensor:
        return image if self.mask is None else image * self.mask

    def prox_data(
        self,
        z: torch.Tensor,
        y: torch.Tensor,
        weight: torch.Tensor,
        typical_error: float | None = None,
    ) -> torch.Tensor:
        """Return z plus a Wiener filter of the residual inside the frame.

        Exact without a mask. With one it is exact only where the PSF does not reach the
        border of the frame. With `typical_error`, λ is divided by how much larger
        than typical the squared error of z is (`error_ratio`). For an uncertain PSF it
        is argmin E‖A x - y‖² + λ‖x - z‖².
        """
        spectrum = self._transform(z)
        again = self._unscaled(spectrum * self.otf)
        residual = self.prepare(
            self._masked(torch.add(y, again, alpha=-1 / self.pixels))
        )
        residual = self._shrunk(residual, spectrum)
        if typical_error is not None:
            weight = weight / self.error_ratio(residual, weight, typical_error)
        change = residual * (self.power + weight).reciprocal()
        return torch.add(z, self._unscaled(change), alpha=1 / self.pixels)

    def shrunk(self, prepared: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return `prepare` of a residual, less the uncertain part of the blurred z."""
        if self._variance is None:
            return prepared
        return self._shrunk(prepared, self._transform(z))

    def _shrunk(self, prepared: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
        if self._variance is None:
            return prepared
        return prepared - self._variance * spectrum

    def error_ratio(
        self, residual: torch.Tensor, weight: torch.Tensor, typical_error: float
    ) -> torch.Tensor:
        """Return the squared error (B, 1, 1) of an image over its typical value.

        White error of the typical size would be changed by a proximal step, at each
        frequency, by the share |ĥ|² / (|ĥ|² + λ); a larger change means a larger error.

        Parameters
        ----------
        residual
            (B, H, W // 2 + 1), `prepare` of the masked residual y - A z.
        weight
            λ (B, 1, 1).
        typical_error
            Root mean square of the error.
        """
        found, gain = self.error_power(residual, weight)
        return bounded_ratio(found, typical_error**2 * self._share * gain, weight)

    def error_power(
        self, residual: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean squared change of an image by a proximal step, (B, 1, 1).

        And its expected value for white error of unit mean square, (B, 1, 1).
        Parameters as `error_ratio`.
        """
        rows, columns = self.shape
        balanced = self.power + weight
        power = residual.real.square().addcmul_(residual.imag, residual.imag)
        # Parseval: the mean square of the change.
        found = self.spectral_mean(power / balanced.square()) / (rows * columns)
        return found, self.spectral_mean(self.power / balanced)

    def spectral_mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean over all frequencies of (..., H, W // 2 + 1), (..., 1, 1)."""
        # The half spectrum represents the whole, except that its first column, and its
        # last where the width is even, count once. Nothing is written in place: a CUDA
        # graph cannot record the copy of a Python number.
        total = 2 * values.sum((-2, -1), keepdim=True)
        total = total - values[..., :1].sum((-2, -1), keepdim=True)
        if self.shape[1] % 2 == 0:
            total = total - values[..., -1:].sum((-2, -1), keepdim=True)
        mean: torch.Tensor = total / (self.shape[0] * self.shape[1])
        return mean


def bounded_ratio(
    found: torch.Tensor, expected: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Return the ratio of squared errors by which a weight λ may be divided."""
    # Where noise dominates, an excess of noise must not count as error of z.
    most = (1 / weight).clamp(1.0, _LARGEST_RATIO)
    return torch.minimum((found / expected).clamp(min=_LEAST_RATIO), most)


def _wrapped_transfer(kernel: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Return `otf` of a kernel that may be larger than the image.

    Parts beyond the image are wrapped to its other side, which does not change the
    transform at the image's frequencies.
    """
    if kernel.shape[-2] <= shape[0] and kernel.shape[-1] <= shape[1]:
        return otf(kernel, shape)
    for axis, size in ((-2, shape[0]), (-1, shape[1])):
        side = kernel.shape[axis]
        places = (torch.arange(side, device=kernel.device) - side // 2) % size
        wide = list(kernel.shape)
        wide[axis] = size
        kernel = kernel.new_zeros(wide).index_add(axis, places, kernel)
    transfer: torch.Tensor = torch.fft.rfft2(kernel)
    return transfer
