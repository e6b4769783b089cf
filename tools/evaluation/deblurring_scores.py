"""How good, and how honest, a deblurred image is: figures of images (H, W) of light."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import fft, ndimage

from deepblur_live.optics import psnr, ssim
from evaluation.scores import INNER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluation.deblurring_frames import Frame

    Pixels = NDArray[np.float64]

__all__ = [
    "Agreement",
    "agreement",
    "beyond_data",
    "fidelity",
    "floor_of",
    "rim",
    "undershoot",
]

# Side of the area whose least light is a pixel's floor, pixels.
_AROUND = 25
# Fine detail is what a Gaussian of this width, pixels, removes.
_FINE = 2.0
# Share of the pixels that is below the worst rim.
_WORST = 0.001
# Bins (sides) of a spectrum over which signal and noise are compared.
_BINS = 9


def floor_of(truth: Pixels) -> Pixels:
    """Return the floor (H, W) of a scene: the least light around each pixel.

    Without stray light it is about 0; on a background it is that background.
    """
    lowest: Pixels = ndimage.minimum_filter(truth, _AROUND)
    return lowest


def undershoot(image: Pixels, truth: Pixels) -> float:
    """Return how far an image is below the scene's floor, the mean over all pixels.

    In the unit of the light: 1 is the scene's range.
    """
    return float(np.maximum(floor_of(truth) - image, 0).mean())


def rim(image: Pixels, floor: Pixels) -> float:
    """Return how far below the floor the worst 0.1 % of the pixels are, at the least.

    In the unit of the light: 1 is the scene's range.
    """
    return max(0.0, float(np.quantile(floor - image, 1 - _WORST)))


def beyond_data(image: Pixels, frame: Frame) -> float:
    """Return the power invented where the data have no signal, in dB over the noise's.

    These are the frequencies at which the blurred scene is weaker than the noise, and
    invented is what does not correlate with the truth, over some neighbouring
    frequencies: what a method leaves out is not counted. The frame itself has about
    0 dB. NaN where the data have signal everywhere.
    """
    assert frame.truth is not None and frame.clean is not None
    rows, cols = image.shape
    taper = np.hanning(rows)[:, None] * np.hanning(cols)

    def spectrum(x: Pixels) -> NDArray[np.complex128]:
        found: NDArray[np.complex128] = fft.fft2((x - x.mean()) * taper)
        return found

    def local(x: Pixels) -> Pixels:
        mean: Pixels = ndimage.uniform_filter(x, _BINS, mode="wrap")
        return mean

    deviation = frame.noise.map(frame.scaled(frame.clean)[None])[0].double().numpy()
    noise = float(((deviation * frame.span * taper) ** 2).sum())
    silent = local(np.abs(spectrum(frame.clean)) ** 2) < noise
    if not silent.any():
        return math.nan
    found, truth = spectrum(image), spectrum(frame.truth)
    kept = local((found * truth.conj()).real) / local(np.abs(truth) ** 2)
    invented = np.abs(found - kept * truth)[silent] ** 2
    return 10 * math.log10(float(invented.mean()) / noise)


class Agreement(NamedTuple):
    """What two images of the same scene, with different noise, have in common.

    Parameters
    ----------
    share
        Correlation of their fine detail: the share of its power that they agree on.
    common, noise
        The power that they agree on, and the deviation of what they do not: rms of the
        difference over √2.
    """

    share: float
    common: float
    noise: float


def agreement(
    first: Pixels, second: Pixels, where: NDArray[np.bool_] | None = None
) -> Agreement:
    """Compare the fine detail of two images (H, W), at some of their pixels."""
    a, b = (
        (x - ndimage.gaussian_filter(x, _FINE))[... if where is None else where].ravel()
        for x in (first, second)
    )
    a, b = a - a.mean(), b - b.mean()
    common = float(np.mean(a * b))
    size = math.sqrt(float(np.mean(a * a) * np.mean(b * b)))
    share = common / size if size > 0 else math.nan
    return Agreement(share, common, float(np.std(a - b)) / math.sqrt(2))


def fidelity(image: Pixels, frame: Frame, white: bool) -> dict[str, float]:
    """Return the figures of a deblurred image (H, W) of light against the truth.

    Parameters
    ----------
    image, frame
        The image, and the frame it was made from.
    white
        Whether `beyond_data` knows the frame's noise.
    """
    truth = frame.truth
    assert truth is not None
    rim_mask = np.ones(truth.shape, bool)
    rim_mask[INNER] = False
    border, interior = (
        psnr(image[part], truth[part]) for part in (rim_mask, ~rim_mask)
    )
    flux = float(image.mean() / frame.light(frame.image).mean())
    found = {
        "psnr": psnr(image, truth),
        "ssim": ssim(image, truth),
        "undershoot": undershoot(image, truth),
        "rim": rim(image, floor_of(truth)),
        "border": border - interior,
        "flux": abs(flux - 1),
    }
    if white and not math.isnan(beyond := beyond_data(image, frame)):
        found["beyond"] = beyond
    return found
