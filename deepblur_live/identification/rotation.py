"""The bit a spectrum cannot tell: a PSF from the same PSF turned by 180°."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.optics import Convolution, ZernikeFamily, extend, psf_snr

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Rotation", "sparsity"]

# A crop is enough to see edges ring.
_CROP = 512
# Specimens' power falls with the square of the frequency (Field, JOSA A 4(12) 1987);
# its height is read off these cycles a pixel. Beside a filter that takes it for flat,
# 75 of 75 validation frames are right, not 69.
_BAND = (0.02, 0.1)
_LOWEST = 1 / 64
# A frame without noise is still not known to the last digit.
_LEAST_BALANCE = 1e-4
# After so many votes for one turn, one frame in so many is asked: a vote costs as much
# as half a fit, and a turn does not change.
_AGREED, _ASK_EVERY = 8, 5
# Noise alone makes one turn sparser, relative, with this deviation over √pixels: on 43
# pictures of the training split, at σ of 0.01, 0.03 and 0.05 alike. What is not so many
# deviations sparser is not told: of 822 answers to single frames of that split 42 were
# not, 16 of them the wrong turn and 16 a PSF that is wrong in either; of the other 780
# 11 and 31 were. Twice as many deviations lose twice as many right answers. The mean of
# many votes has to be as large: asked again and again, chance or what is odd in a still
# specimen would else tell a turn in the end.
_DEVIATION, _ENOUGH = 0.23, 2.2
# A PSF that its turn is so near to, as PSF SNR in dB, is told without one.
_ALIKE = 10.0


def sparsity(image: torch.Tensor) -> torch.Tensor:
    """Return ‖∇x‖₁ / (‖∇x‖₂ √N) over the last two axes: small for few sharp edges."""
    down = image.diff(dim=-2)[..., :, :-1]
    right = image.diff(dim=-1)[..., :-1, :]
    square = down**2 + right**2
    return square.sqrt().mean((-2, -1)) / square.mean((-2, -1)).sqrt()


def _balance(image: torch.Tensor, power: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return σ² over the specimen's power, (H, W//2+1), of an image without its mean.

    `power` is |ĥ|² of the image's shape.
    """
    rows, columns = image.shape
    y = torch.fft.fftfreq(rows, device=image.device)[:, None]
    x = torch.fft.rfftfreq(columns, device=image.device)
    square = (x**2 + y**2).clamp(min=_LOWEST**2)
    band = (square > _BAND[0] ** 2) & (square < _BAND[1] ** 2)
    spectrum = torch.fft.rfft2(image)[band]
    seen = (spectrum.real**2 + spectrum.imag**2) / image.numel() - sigma**2
    height = (seen.clamp(min=0) * square[band]).mean() / power[band].mean()
    balance: torch.Tensor = sigma**2 * square / height.clamp(min=1e-12)
    return balance.clamp(min=_LEAST_BALANCE)


class Rotation:
    """Votes, frame after frame, on which of γ and its rotation is true.

    A frame deconvolved with the true PSF has sparser gradients than with the PSF turned
    by 180°. One frame may be wrong; the evidence of many is kept, and the turn is told
    once their mean stands out of the noise of one.

    Parameters
    ----------
    family
        The blurs.
    memory
        Share of the evidence that is kept from vote to vote.
    """

    def __init__(self, family: ZernikeFamily, memory: float = 0.9) -> None:
        self.family = family
        self._memory = memory
        self.reset()

    def reset(self) -> None:
        """Forget the evidence."""
        self._evidence = self._votes = 0.0
        self._agreed = self._unasked = 0
        self._enough = False
        self._reference: NDArray[np.float64] | None = None

    def told(self, coefficients: NDArray[np.float64]) -> bool:
        """Return whether the turn of γ has ever been told, or does not matter."""
        if self._enough:
            return True
        upright, over = self._both(coefficients)
        return float(psf_snr(over, upright)) > _ALIKE

    def _both(self, coefficients: NDArray[np.float64]) -> torch.Tensor:
        """Return the PSFs (2, K, K) of γ, upright and turned."""
        both = np.stack([coefficients, self.family.rotated(coefficients)])
        return self.family.psf(torch.as_tensor(both, dtype=torch.float32))

    @staticmethod
    def crop(image: torch.Tensor) -> torch.Tensor:
        """Return as much of the middle of an image (H, W) as is looked at."""
        height, width = (min(n, _CROP) for n in image.shape)
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return image[top : top + height, left : left + width].cpu()

    def advantage(
        self, image: torch.Tensor, coefficients: NDArray[np.float64], sigma: float
    ) -> float:
        """Return how much sparser (relative) `image` gets with γ than turned.

        `image` is (H, W), scaled to about [0, 1], with noise `sigma`.
        """
        crop = self.crop(image)
        height, width = crop.shape
        psf = self._both(coefficients)
        whole = extend(crop, psf.shape[-1] - 1)
        blur = Convolution(psf, (whole.shape[-2], whole.shape[-1]))
        balance = _balance(whole - whole.mean(), blur.power[0], sigma)
        restored = blur.wiener(whole, balance)[..., :height, :width]
        a, b = sparsity(restored)
        return float(torch.log(b / a))

    def decide(
        self, image: torch.Tensor, coefficients: NDArray[np.float64], sigma: float
    ) -> NDArray[np.float64]:
        """Return γ or its rotation: the one that this frame and earlier ones favour."""
        turned = self.family.rotated(coefficients)
        if self._reference is not None:
            odd = ~self.family.even
            if float(self._reference[odd] @ coefficients[odd]) < 0:
                coefficients, turned = turned, coefficients
        self._unasked += 1
        if self._agreed >= _AGREED and self._unasked < _ASK_EVERY:
            self._reference = coefficients
            return coefficients
        self._unasked = 0
        crop = self.crop(image)
        advantage = self.advantage(crop, coefficients, sigma)
        # A crop without any gradient has no say.
        if np.isfinite(advantage):
            self._evidence = self._memory * self._evidence + advantage
            self._votes = self._memory * self._votes + 1
        self._agreed = self._agreed + 1 if advantage > 0 else 0
        least = _ENOUGH * _DEVIATION / crop.numel() ** 0.5 * self._votes
        # What has been told is not turned by less than it takes to tell.
        if self._evidence < (-least if self._enough else 0):
            self._evidence = -self._evidence
            coefficients = turned
        self._enough = self._enough or self._evidence > least
        self._reference = coefficients
        return coefficients
