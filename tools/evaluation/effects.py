"""Effects that make frames real: on their light, on the camera, and on the file.

Each takes a view and a random generator, and returns the view after it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from evaluation.true_optics import TrueOptics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.float64]

__all__ = [
    "MARGIN",
    "Effect",
    "View",
    "column_offsets",
    "convolved",
    "dead_pixels",
    "haze",
    "hot_pixels",
    "interlaced",
    "jpeg",
    "motion",
    "other_planes",
    "pixel_gains",
    "quantised",
    "resampled",
    "saturated",
    "shot_noise",
    "smoothed",
    "vignetting",
]

# A scene extends so far beyond the frame at each side: no effect reaches further.
MARGIN = 96
# Other planes: distance from the focus in µm, and half the window of their PSFs.
_PLANES_UM = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
_WIDE_HALF = 64
_IDEAL = TrueOptics()


@dataclass(frozen=True)
class View:
    """A frame on its way to the file.

    Parameters
    ----------
    image
        (H, W), in [0, 1] but for the noise.
    psf
        (K, K) of the plane in focus, sum 1.
    sharp
        (H, W) the scene, for light that does not come from the plane in focus.
    """

    image: Pixels
    psf: Pixels
    sharp: Pixels

    def filtered(self, by: Callable[[Pixels], Pixels]) -> View:
        """Return the view after a linear filter, which becomes a part of the PSF."""
        return replace(self, image=by(self.image), psf=by(self.psf))


Effect = Callable[[View, np.random.Generator], View]


Effect = Callable[[View, np.random.Generator], View]


def convolved(image: Pixels, psf: Pixels) -> Pixels:
    """Return the periodic convolution (H, W) of an image with a PSF (K, K)."""
    kernel = np.zeros_like(image)
    side = len(psf)
    kernel[:side, :side] = psf
    kernel = np.roll(kernel, (-(side // 2), -(side // 2)), (0, 1))
    product = fft.rfft2(image) * fft.rfft2(kernel)
    result: Pixels = fft.irfft2(product, image.shape)
    return result


# Effects on the light.


def haze(
    view: View, chance: np.random.Generator, *, share: float, sigma_px: float
) -> View:
    """Scatter a share of the light by a Gaussian."""
    scattered = ndimage.gaussian_filter(view.image, sigma_px, mode="wrap")
    return replace(view, image=(1 - share) * view.image + share * scattered)


def other_planes(
    view: View,
    chance: np.random.Generator,
    *,
    share: float,
    optics: TrueOptics = _IDEAL,
) -> View:
    """Let a share of the light come from structures 0.5 to 2 µm out of focus.

    They are the scene itself, elsewhere and in another orientation.
    """
    light = np.zeros_like(view.image)
    for number, z_um in enumerate(_PLANES_UM):
        structure = np.rot90(view.sharp, number % 4)
        structure = np.roll(structure, chance.integers(len(structure), size=2), (0, 1))
        light += convolved(structure, optics.psf({}, z_um, _WIDE_HALF))
    light /= len(_PLANES_UM)
    return replace(view, image=(1 - share) * view.image + share * light)


def motion(view: View, chance: np.random.Generator, *, pixels: float) -> View:
    """Move the specimen steadily, in a random direction, while it is exposed."""
    angle = chance.uniform(0, np.pi)
    steps = np.linspace(-0.5, 0.5, 21) * pixels

    def moved(image: Pixels) -> Pixels:
        spectrum = fft.rfft2(image)
        fy = fft.fftfreq(image.shape[0])[:, None]
        fx = fft.rfftfreq(image.shape[1])
        along = fy * np.sin(angle) + fx * np.cos(angle)
        transfer = np.mean([np.exp(-2j * np.pi * s * along) for s in steps], 0)
        result: Pixels = fft.irfft2(spectrum * transfer, image.shape)
        return result

    return view.filtered(moved)


def vignetting(view: View, chance: np.random.Generator, *, corner: float) -> View:
    """Dim the frame towards its corners, to 1 - corner."""
    places = np.linspace(-1, 1, view.image.shape[0] - 2 * MARGIN)
    radius = (places[:, None] ** 2 + places**2) / 2
    whole = np.pad(1 - corner * radius, MARGIN, mode="edge")
    return replace(view, image=view.image * whole)


# Effects of the camera.


def shot_noise(
    view: View,
    chance: np.random.Generator,
    *,
    electrons: float,
    background: float = 0.0,
) -> View:
    """Add the shot noise of so many electrons at 1, and of a uniform background."""
    variance = np.maximum(view.image + background, 0) / electrons
    noise = np.sqrt(variance) * chance.standard_normal(view.image.shape)
    return replace(view, image=view.image + noise)


def hot_pixels(
    view: View, chance: np.random.Generator, *, share: float, mean: float
) -> View:
    """Add an exponential excess to a share of the pixels."""
    hot = chance.random(view.image.shape) < share
    excess = hot * chance.exponential(mean, view.image.shape)
    return replace(view, image=view.image + excess)


def dead_pixels(view: View, chance: np.random.Generator, *, share: float) -> View:
    """Set a share of the pixels to 0."""
    return replace(view, image=view.image * (chance.random(view.image.shape) >= share))


def column_offsets(view: View, chance: np.random.Generator, *, rms: float) -> View:
    """Add a fixed offset to each column."""
    offsets = rms * chance.standard_normal(view.image.shape[1])
    return replace(view, image=view.image + offsets)


def pixel_gains(view: View, chance: np.random.Generator, *, rms: float) -> View:
    """Give each pixel a gain of its own (a fixed pattern)."""
    gains = 1 + rms * chance.standard_normal(view.image.shape)
    return replace(view, image=view.image * gains)


def saturated(view: View, chance: np.random.Generator, *, share: float) -> View:
    """Clip the brightest pixels."""
    ceiling = np.quantile(view.image, 1 - share)
    return replace(view, image=np.minimum(view.image, ceiling))


def quantised(view: View, chance: np.random.Generator, *, levels: int) -> View:
    """Round to so many grey levels between 0 and 1."""
    return replace(view, image=np.rint(view.image * levels) / levels)


# Effects on the finished frame.


def jpeg(view: View, chance: np.random.Generator, *, quality: int) -> View:
    """Compress as an 8-bit JPEG."""
    low, high = np.percentile(view.image, (0.1, 99.9))
    grey = np.clip(np.rint(255 * (view.image - low) / (high - low)), 0, 255)
    stored = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(stored, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(stored)).astype(float)
    return replace(view, image=low + (high - low) * decoded / 255)


def interlaced(view: View, chance: np.random.Generator, *, pixels: int) -> View:
    """Shift every other row; the PSF is the mean of both kinds of rows."""
    image = view.image.copy()
    image[1::2] = np.roll(image[1::2], pixels, 1)
    psf = (view.psf + np.roll(view.psf, pixels, 1)) / 2
    return replace(view, image=image, psf=psf)


def resampled(view: View, chance: np.random.Generator, *, pixels: float) -> View:
    """Shift by a part of a pixel, by linear interpolation along both axes."""
    return view.filtered(lambda x: ndimage.shift(x, pixels, order=1, mode="nearest"))


def smoothed(view: View, chance: np.random.Generator, *, sigma_px: float) -> View:
    """Smooth by a Gaussian, as some cameras and programs do."""
    return view.filtered(lambda x: ndimage.gaussian_filter(x, sigma_px, mode="nearest"))
