"""The classical methods, on frames continued periodically as ours are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from skimage.restoration import unsupervised_wiener

from deepblur_live.optics import Convolution, psnr

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "best_wiener",
    "blind_richardson_lucy",
    "richardson_lucy",
    "unsupervised",
]

# Keeps the ratio of Richardson and Lucy finite where the estimate is dark.
_DARK = 1e-6


def _shape(image: torch.Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


def _ascend(
    estimate: torch.Tensor, operator: Convolution, y: torch.Tensor, iterations: int
) -> torch.Tensor:
    """Return an estimate after so many steps of Richardson and Lucy."""
    for _ in range(iterations):
        ratio = y / operator.forward(estimate).clamp(min=_DARK)
        estimate = (estimate * operator.adjoint(ratio)).clamp(min=0)
    return estimate


def richardson_lucy(
    y: torch.Tensor, psf: torch.Tensor, iterations: int = 20
) -> torch.Tensor:
    """Return the estimate (H, W) from a frame (H, W), starting from its mean.

    References
    ----------
    Richardson, JOSA 62(1) 1972; Lucy, Astronomical Journal 79 1974.
    """
    y = y.clamp(min=0)
    start = torch.full_like(y, float(y.mean()))
    return _ascend(start, Convolution(psf, _shape(y)), y, iterations)


def blind_richardson_lucy(
    y: torch.Tensor, start: torch.Tensor, rounds: int = 10, inner: int = 5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an image (H, W) and a PSF (K, K), each found with the other in turn.

    The PSF starts as `start`, keeps its window and is kept at sum 1.

    References
    ----------
    Fish, Brinicombe, Pike & Walker, JOSA A 12(1) 1995.
    """
    y = y.clamp(min=0)
    shape, size = _shape(y), start.shape[-1]
    half = size // 2
    image, psf = torch.full_like(y, float(y.mean())), start
    for _ in range(rounds):
        image = _ascend(image, Convolution(psf, shape), y, inner)
        total = image.sum()
        spectrum = torch.fft.rfft2(image / total)
        for _ in range(inner):
            # The image convolves the PSF: the same step with their roles exchanged.
            model = Convolution(psf, shape).forward(image).clamp(min=_DARK)
            correlation = torch.fft.irfft2(
                torch.fft.rfft2(y / model) * spectrum.conj(), s=shape
            )
            window = torch.roll(correlation, (half, half), (0, 1))[:size, :size]
            psf = (psf * window).clamp(min=0)
            psf = psf / psf.sum()
    return image, psf


def best_wiener(
    y: torch.Tensor, psf: torch.Tensor, truth: np.ndarray, inner: tuple[slice, slice]
) -> np.ndarray:
    """Return the Wiener filter's image with the best balance, truth in hand.

    `inner` says which part of `truth` (H, W), the top left of y, is compared.
    """
    operator = Convolution(psf, _shape(y))
    size = tuple(slice(0, n) for n in truth.shape)
    images = (
        operator.wiener(y, 10 ** (-exponent / 4)).numpy()[size]
        for exponent in range(2, 33)
    )
    best: np.ndarray = max(images, key=lambda x: psnr(x[inner], truth[inner]))
    return best


def unsupervised(y: torch.Tensor, psf: torch.Tensor) -> np.ndarray:
    """Return the image of a Wiener filter that finds its own balance, (H, W).

    References
    ----------
    Orieux, Giovannelli & Rodet, JOSA A 27(7) 2010; as in scikit-image.
    """
    image, _ = unsupervised_wiener(
        y.double().numpy(), psf.double().numpy(), clip=False, rng=0
    )
    found: np.ndarray = image
    return found
