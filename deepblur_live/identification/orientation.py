"""The bit a spectrum cannot tell: a PSF from the same PSF turned by 180°."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.identification.phase import DEVIATION, noise_share, sparsity
from deepblur_live.optics import Convolution, ZernikeFamily, extend, psf_snr

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Rotation"]

# A crop is enough to see edges ring.
_CROP = 512
# After so many votes for one turn, one frame in so many is asked: a vote costs as much
# as half a fit, and a turn does not change.
_AGREED, _ASK_EVERY = 8, 5
# What is not so many deviations sparser than its turn is not told: of 822 answers to
# single frames of the training split 42 were not, 16 of them the wrong turn and 16 a
# PSF that is wrong in either; of the other 780 11 and 31 were. Twice as many deviations
# lose twice as many right answers. The mean of many votes has to be as large: asked
# again and again, chance or what is odd in a still specimen would tell a turn in the
# end.
_ENOUGH = 2.2
# A PSF that its turn is so near to, as PSF SNR in dB, is told without one.
_ALIKE = 10.0


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
        spectrum = torch.fft.rfft2(whole - whole.mean())
        balance, _ = noise_share(spectrum, blur.shape, blur.power[0], sigma)
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
        least = _ENOUGH * DEVIATION / crop.numel() ** 0.5 * self._votes
        # What has been told is not turned by less than it takes to tell.
        if self._evidence < (-least if self._enough else 0):
            self._evidence = -self._evidence
            coefficients = turned
        self._enough = self._enough or self._evidence > least
        self._reference = coefficients
        return coefficients
