"""Classical deconvolution, on frames that are continued periodically as ours are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from skimage.restoration import unsupervised_wiener

from deepblur_live.blur import Convolution
from deepblur_live.optics import frame_part, psnr

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "best_wiener",
    "blind_richardson_lucy",
    "richardson_lucy",
    "unsupervised",
]

# Keeps the Richardson–Lucy ratio finite where the estimate is dark.
_DARK = 1e-6


def _operator(psf: torch.Tensor, image: torch.Tensor) -> Convolution:
    return Convolution(psf, (image.shape[-2], image.shape[-1]))


def _ascend(
    estimate: torch.Tensor, psf: torch.Tensor, y: torch.Tensor, iterations: int
) -> torch.Tensor:
    """Return an estimate after some Richardson–Lucy iterations."""
    operator = _operator(psf, y)
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
    return _ascend(torch.full_like(y, float(y.mean())), psf, y, iterations)


def blind_richardson_lucy(
    y: torch.Tensor, start: torch.Tensor, rounds: int = 10, inner: int = 5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an image (H, W) and a PSF (K, K), each updated alternately.

    The PSF begins as `start`, keeps its window and is kept at sum 1.

    References
    ----------
    Fish, Brinicombe, Pike & Walker, JOSA A 12(1) 1995.
    """
    y = y.clamp(min=0)
    size = start.shape[-1]
    image, psf = torch.full_like(y, float(y.mean())), start
    for _ in range(rounds):
        image = _ascend(image, psf, y, inner)
        spectrum = torch.fft.rfft2(image / image.sum())
        for _ in range(inner):
            # The image convolves the PSF: the same step with their roles exchanged.
            model = _operator(psf, y).forward(image).clamp(min=_DARK)
            correlation = torch.fft.irfft2(
                torch.fft.rfft2(y / model) * spectrum.conj(), s=y.shape
            )
            half = size // 2
            window = torch.roll(correlation, (half, half), (0, 1))[:size, :size]
            psf = (psf * window).clamp(min=0)
            psf = psf / psf.sum()
    return image, psf


def best_wiener(
    y: torch.Tensor, psf: torch.Tensor, truth: np.ndarray, inner: tuple[slice, slice]
) -> np.ndarray:
    """Return the image of the Wiener filter whose balance is best for the truth.

    `inner` says which part of `truth` (H, W), the frame that y extends, is compared.
    """
    operator = _operator(psf, y)
    part = frame_part(operator.shape, (truth.shape[0], truth.shape[1]))
    images = (
        operator.wiener(y, 10 ** (-exponent / 4)).numpy()[part]
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
    found: np.ndarray = unsupervised_wiener(
        y.double().numpy(), psf.double().numpy(), clip=False, rng=0
    )[0]
    return found
