"""The mean bead of a frame, and how well a PSF explains it.

Made without the program's own detection, registration and fit. The places of the beads
are found in the plane in focus, where they are points.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage, optimize

from deepblur_live.blur import family_from_profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.profile import Profile
    from evaluation.table import Row

__all__ = ["bead_places", "bead_row", "bead_snr", "mean_bead"]

# Half of the side of a mean bead, pixels.
_HALF = 15

# Least brightness of a bead over the brightest's, radius within which a maximum is one
# bead, and distance to the next, pixels.
_LEAST, _RADIUS, _APART = 0.1, 6, 30.0
# Largest standard deviation of the Gaussian that may be added, pixels.
_WIDEST = 2.0
_ROUNDS = 4


def bead_row(
    plane: NDArray[np.generic],
    focus: NDArray[np.generic],
    row: Row,
    rig: Profile,
    diameter_nm: float,
) -> Row:
    """Return how well a reported PSF explains the mean bead of its plane, in dB.

    With and without the Gaussian that real beads need besides, and for comparison the
    PSF of a perfect objective in focus. Nothing where no coefficients were reported.

    Parameters
    ----------
    plane, focus
        (H, W) grey values of the plane, and of the plane in focus.
    row
        What was reported of the plane.
    rig
        The program's profile.
    diameter_nm
        Of the beads.
    """
    if "coefficients" not in row:
        return {}
    family = family_from_profile(rig)
    mean = mean_bead(plane, bead_places(focus))
    diameter = diameter_nm / rig.optics.pixel_size_nm
    gamma = torch.tensor(row["coefficients"], dtype=torch.float64)
    reported, perfect = (family.psf(g).numpy() for g in (gamma, 0 * gamma))
    return {
        "bead_snr": bead_snr(reported, mean, diameter),
        "bead_snr_blurred": bead_snr(reported, mean, diameter, blurred=True),
        "bead_snr_in_focus": bead_snr(perfect, mean, diameter),
        "bead_snr_in_focus_blurred": bead_snr(perfect, mean, diameter, blurred=True),
    }


def bead_places(focus: NDArray[np.generic], half: int = _HALF) -> NDArray[np.intp]:
    """Return the places (n, 2) of the isolated beads of the plane in focus (H, W)."""
    smooth = ndimage.gaussian_filter(focus.astype(np.float64), 1.0)
    smooth -= np.median(smooth)
    peak = smooth == ndimage.maximum_filter(smooth, 2 * _RADIUS + 1)
    places = np.argwhere(peak & (smooth > _LEAST * smooth.max()))
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    alone = (distance < _APART).sum(1) == 1
    inside = ((places >= half) & (places < np.array(focus.shape) - half)).all(1)
    isolated: NDArray[np.intp] = places[alone & inside]
    return isolated


def mean_bead(
    plane: NDArray[np.generic], places: NDArray[np.intp], half: int = _HALF
) -> NDArray[np.float64]:
    """Return the mean (2·half + 1, 2·half + 1) of a plane's beads, registered."""
    parts = [plane[r - half : r + half + 1, c - half : c + half + 1] for r, c in places]
    crops = np.stack(parts).astype(np.float64)
    edge = np.concatenate([crops[:, 0], crops[:, -1], crops[..., 0], crops[..., -1]], 1)
    crops -= np.median(edge, 1)[:, None, None]
    mean = crops[int(crops.sum((1, 2)).argmax())]
    for _ in range(_ROUNDS):
        moved = [_moved(crop, _offset(crop, mean)) for crop in crops]
        mean = np.mean(moved, 0)
    return mean


def _moved(image: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    spectrum = ndimage.fourier_shift(np.fft.fft2(image), by)
    moved: NDArray[np.float64] = np.fft.ifft2(spectrum).real
    return moved


def _offset(
    image: NDArray[np.float64], reference: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return by how much an image must be moved onto a reference, to a fraction."""
    product = np.fft.fft2(reference) * np.fft.fft2(image).conj()
    whole = np.fft.ifft2(product).real
    side = len(image)
    start = np.array(np.unravel_index(whole.argmax(), whole.shape), dtype=float)
    start -= side * (start > side / 2)
    f = np.fft.fftfreq(side)

    def off(by: NDArray[np.float64]) -> float:
        wave = np.exp(2j * np.pi * (f[:, None] * by[0] + f * by[1]))
        return -float((product * wave).real.sum())

    found: NDArray[np.float64] = optimize.minimize(off, start, method="Nelder-Mead").x
    return found


def bead_snr(
    psf: NDArray[np.float64],
    mean: NDArray[np.float64],
    diameter: float,
    blurred: bool = False,
) -> float:
    """Return how well a PSF (K, K) explains a mean bead (C, C), K ≥ C, in dB.

    At the best place, brightness and background: -10·log10 of the residual's energy
    over that of the mean bead without its background.

    Parameters
    ----------
    psf, mean
        PSF and mean bead, both in the middle.
    diameter
        Of the beads, pixels.
    blurred
        Whether the Gaussian that explains the bead best is added.
    """
    side = len(psf)
    f = np.fft.fftfreq(side)
    square = f[:, None] ** 2 + f**2
    q = np.maximum(math.pi * diameter * np.sqrt(square), 1e-3)
    spectrum = np.fft.fft2(psf) * 3 * (np.sin(q) - q * np.cos(q)) / q**3
    cut = (side - len(mean)) // 2
    kept = slice(cut, cut + len(mean))

    def left(state: NDArray[np.float64]) -> float:
        """Return the residual's energy over the bead's."""
        sigma = min(abs(state[2]), _WIDEST) if blurred else 0.0
        wave = np.exp(-2j * np.pi * (f[:, None] * state[0] + f * state[1]))
        gaussian = np.exp(-2 * (math.pi * sigma) ** 2 * square)
        image = np.fft.ifft2(spectrum * wave * gaussian).real[kept, kept].ravel()
        design = np.stack([image, np.ones_like(image)], 1)
        amplitude = np.linalg.lstsq(design, mean.ravel(), rcond=None)[0]
        residual = mean.ravel() - design @ amplitude
        signal = mean.ravel() - amplitude[1]
        return float(residual @ residual / (signal @ signal))

    # From the places where the cross-correlation is largest.
    template = np.zeros_like(psf)
    template[kept, kept] = mean
    start = _offset(psf, template)
    best = optimize.minimize(left, [*start, 0.5], method="Nelder-Mead")
    return -10 * math.log10(max(float(best.fun), 1e-12))
