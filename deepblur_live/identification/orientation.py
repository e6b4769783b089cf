"""The 180° ambiguity: a power spectrum does not distinguish a PSF from its rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.symmetry import ResolvedBy, nearest, orbit
from deepblur_live.identification.phase import DEVIATION, noise_share, sparsity
from deepblur_live.optics import extend, frame_part, otf, psf_snr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, ErrorModel

__all__ = ["Orientation"]

# Side of the crop that is evaluated, pixels.
_CROP = 512
# After the first number of frames in agreement only one frame in the second number is
# evaluated: a vote costs as much as half a fit, and the orientation does not change.
_AGREED, _EVALUATE_EVERY = 8, 5
# A PSF this similar to its rotation, as PSF SNR in dB, has no orientation to resolve.
_SIMILAR = 10.0


class Orientation:
    """Decides between γ and its rotation by 180°, from the evidence of many frames.

    A frame deconvolved with the true PSF has sparser gradients than with the PSF
    rotated by 180°. One frame may be wrong; evidence is accumulated, and the ambiguity
    counts as resolved once its mean exceeds what chance gives in a single frame
    (docs/decisions/0094-orientation.md).

    Parameters
    ----------
    family
        The blurs.
    errors
        Gives the significance that is required.
    memory
        Share of the evidence that is kept from one vote to the next.
    """

    def __init__(
        self, family: BlurFamily, errors: ErrorModel, memory: float = 0.9
    ) -> None:
        self.family = family
        self._significance = errors.orientation
        self._elements = orbit(family, ResolvedBy.IMAGE)[:2]
        self._memory = memory
        self.reset()

    def reset(self) -> None:
        """Forget the evidence."""
        self._evidence = self._votes = 0.0
        self._agreed = self._skipped = 0
        self._significant = False
        self._reference: NDArray[np.float64] | None = None

    @property
    def _ambiguous(self) -> bool:
        """Whether the family has the ambiguity at all."""
        return len(self._elements) > 1

    def _rotated(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._elements[-1].apply(coefficients)

    def resolved(self, coefficients: NDArray[np.float64]) -> bool:
        """Return whether the orientation of γ is known, or does not matter."""
        if self._significant or not self._ambiguous:
            return True
        upright, rotated = self._both(coefficients)
        return float(psf_snr(rotated, upright)) > _SIMILAR

    def _both(self, coefficients: NDArray[np.float64]) -> torch.Tensor:
        """Return the PSFs (2, K, K) of γ and of its rotation."""
        both = np.stack([coefficients, self._rotated(coefficients)])
        return self.family.psf(torch.as_tensor(both, dtype=torch.float32))

    @staticmethod
    def crop(image: torch.Tensor) -> torch.Tensor:
        """Return the central part of an image (H, W) that is evaluated, on the CPU."""
        height, width = (min(n, _CROP) for n in image.shape)
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return image[top : top + height, left : left + width].cpu()

    def advantage(
        self, image: torch.Tensor, coefficients: NDArray[np.float64], sigma: float
    ) -> float:
        """Return how much sparser, relatively, `image` becomes with γ than rotated.

        `image` is (H, W), scaled to about [0, 1], with noise `sigma`.
        """
        crop = self.crop(image)
        height, width = crop.shape
        psf = self.family.psf(torch.as_tensor(coefficients, dtype=torch.float32))
        whole = extend(crop, psf.shape[-1] - 1)
        shape = (whole.shape[-2], whole.shape[-1])
        transfer = otf(psf, shape)
        power = transfer.real.square().addcmul_(transfer.imag, transfer.imag)
        spectrum = torch.fft.rfft2(whole - whole.mean())
        balance, _ = noise_share(spectrum, shape, power, sigma)
        spectrum.div_(balance.add_(power))
        # A rotated PSF has the conjugate OTF.
        filtered = torch.stack([spectrum * transfer.conj(), spectrum * transfer])
        inside = (..., *frame_part(shape, (height, width)))
        restored = torch.fft.irfft2(filtered, s=shape)[inside]
        a, b = sparsity(restored)
        return float(torch.log(b / a))

    def decide(
        self, image: torch.Tensor, coefficients: NDArray[np.float64], sigma: float
    ) -> NDArray[np.float64]:
        """Return γ or its rotation: the one that the frames so far favour."""
        if not self._ambiguous:
            return coefficients
        if self._reference is not None:
            coefficients = nearest(coefficients, self._reference, self._elements)
        rotated = self._rotated(coefficients)
        self._skipped += 1
        if self._agreed >= _AGREED and self._skipped < _EVALUATE_EVERY:
            self._reference = coefficients
            return coefficients
        self._skipped = 0
        crop = self.crop(image)
        advantage = self.advantage(crop, coefficients, sigma)
        # A crop without any gradient has no vote.
        if np.isfinite(advantage):
            self._evidence = self._memory * self._evidence + advantage
            self._votes = self._memory * self._votes + 1
        self._agreed = self._agreed + 1 if advantage > 0 else 0
        least = self._significance * DEVIATION / crop.numel() ** 0.5 * self._votes
        # Once resolved, only evidence as significant as that reverses it.
        if self._evidence < (-least if self._significant else 0):
            self._evidence = -self._evidence
            coefficients = rotated
        self._significant = self._significant or self._evidence > least
        self._reference = coefficients
        return coefficients
