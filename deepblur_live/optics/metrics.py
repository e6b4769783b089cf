"""How close two PSFs, or two images, are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["psf_snr", "psnr", "ssim"]


def psf_snr(estimate: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return -10·log10(‖ĥ - h‖² / ‖h‖²) in dB over the last two axes."""
    error = ((estimate - truth) ** 2).sum((-2, -1))
    return -10 * torch.log10(error / (truth**2).sum((-2, -1)))


def psnr(
    estimate: NDArray[np.floating], truth: NDArray[np.floating], peak: float = 1.0
) -> float:
    """Return the peak signal-to-noise ratio in dB, of images with range `peak`."""
    error = np.mean(np.square(np.asarray(estimate, float) - np.asarray(truth, float)))
    return float(10 * np.log10(peak**2 / max(float(error), 1e-30)))


def ssim(
    estimate: NDArray[np.floating], truth: NDArray[np.floating], peak: float = 1.0
) -> float:
    """Return the mean structural similarity, Gaussian window of 1.5 pixels.

    References
    ----------
    Wang, Bovik, Sheikh & Simoncelli, IEEE TIP 13(4) 2004.
    """
    # Slow to import, and not needed by the worker.
    from scipy.ndimage import gaussian_filter

    a, b = np.asarray(estimate, float), np.asarray(truth, float)

    def local(image: NDArray[np.floating]) -> NDArray[np.float64]:
        filtered: NDArray[np.float64] = gaussian_filter(image, 1.5, truncate=3.5)
        return filtered

    mean_a, mean_b = local(a), local(b)
    var_a = local(a * a) - mean_a**2
    var_b = local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    score = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    score = score / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    # In the outermost five pixels the window extends beyond the border.
    return float(score[5:-5, 5:-5].mean())
