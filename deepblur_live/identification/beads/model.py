"""The image of one bead: sphere, blur, PSF and sub-pixel position, with derivatives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.fft import next_fast_len

from deepblur_live.blur.extra_blur import extra_blur

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.identification.beads.detect import Candidate

__all__ = ["BeadModel", "Shapes", "sphere_transfer"]

# Full width at half maximum of a PSF in focus, over λ/NA; and of a ball over its
# diameter, as a Gaussian of the same variance r²/5 on each axis.
_PSF_WIDTH, _BALL_WIDTH = 0.51, 2.355 / math.sqrt(20)
# Largest standard deviation of the Gaussian, over the PSF's width: a wider one would
# explain any disc, and is no property of a microscope in focus.
_WIDEST_BLUR = 0.5
# Pixels per λ/NA from which a shifted PSF is accurate to more than 30 dB, and largest
# diameter of a bead over the side of the PSF's window.
_LEAST_SAMPLING, _LARGEST_BEAD = 3.5, 0.5
# Pixels around an image, in addition to the bead's radius, for the shift and the blur.
_MARGIN = 6


def sphere_transfer(diameter: float, frequency: torch.Tensor) -> torch.Tensor:
    """Return the transfer function of a uniformly fluorescent ball, 1 at frequency 0.

    Parameters
    ----------
    diameter
        In pixels; 0 for a point.
    frequency
        Radial frequencies, cycles per pixel, of any shape.

    Notes
    -----
    The projection of a ball of radius r is √(r² - ρ²); its transform is
    3 (sin q - q cos q) / q³ with q = 2πr|f|.
    """
    # Below, the quotient of two cubes loses its digits; 1 - q²/10 is then exact.
    q = math.pi * diameter * frequency
    small = q < 1e-2
    safe = torch.where(small, torch.ones_like(q), q)
    quotient = 3 * (torch.sin(safe) - safe * torch.cos(safe)) / safe**3
    return torch.where(small, 1 - q**2 / 10, quotient)


class Shapes(NamedTuple):
    """Images of n beads of brightness 1 without background, and their derivatives.

    Parameters
    ----------
    image
        (n, C, C), sum nearly 1.
    by_shared
        (n, P+1, C, C) derivatives in γ and in the variance of the blur.
    by_position
        (n, 2, C, C) derivatives in row and column.
    """

    image: torch.Tensor
    by_shared: torch.Tensor
    by_position: torch.Tensor


class BeadModel:
    """Images of beads that a family of blurs predicts.

    The image of a bead is its sphere, convolved with a Gaussian and with the PSF of γ,
    at a sub-pixel position. The Gaussian represents what the pupil does not describe:
    vibration, the camera's pixel, the emission band. Real beads need about 100 nm of it
    (docs/decisions/0131-bead-model.md). What the family's PSFs already contain of it
    (`extra_blur`) is not counted twice: the fitted variance is relative to it, and may
    be negative. A shift by a part of a pixel needs a PSF that
    the pixels sample well: `unsuitable` says where it fails.

    Parameters
    ----------
    family
        The blurs.
    diameter
        Diameter of a bead, in pixels.
    side
        C, side of the images in pixels, odd. At most, and if None, that of the PSF's
        window, larger by the bead.

    Attributes
    ----------
    fwhm
        Full width at half maximum of a bead in focus, pixels.
    known_blur
        Variance of the Gaussian that the family's PSFs contain, pixels².
    least_blur, largest_blur
        Limits of the variance of the additional Gaussian, pixels².
    """

    def __init__(
        self, family: BlurFamily, diameter: float, side: int | None = None
    ) -> None:
        self.family, self.diameter = family, diameter
        largest = family.window + 2 * math.floor(diameter / 2)
        self.side = largest if side is None else min(side, largest)
        width = _PSF_WIDTH / family.cutoff
        self.fwhm = math.hypot(width, _BALL_WIDTH * diameter)
        self.known_blur = extra_blur(family) ** 2
        self.least_blur = -self.known_blur
        self.largest_blur = max(0.0, (_WIDEST_BLUR * width) ** 2 - self.known_blur)
        # The part of the PSF that reaches into the images, and room for the sphere and
        # the shift on all sides, so that nothing wraps round into them.
        margin = math.ceil(diameter / 2) + _MARGIN
        self._cut = max(0, (family.window - self.side) // 2 - margin)
        self._grid = next_fast_len(self.side + 2 * margin, real=True)
        row = torch.fft.fftfreq(self._grid, dtype=torch.float64)[:, None]
        column = torch.fft.rfftfreq(self._grid, dtype=torch.float64)[None]
        self._row, self._column = row, column
        self._square = row**2 + column**2
        # The image of a PSF that is centred in its window is centred in the image.
        offset = family.window // 2 - self._cut - self.side // 2
        centre = torch.exp(2j * math.pi * offset * (row + column))
        self._fixed = sphere_transfer(diameter, self._square.sqrt()) * centre

    @classmethod
    def unsuitable(cls, family: BlurFamily, diameter: float) -> str:
        """Return why beads cannot be fitted, in words; empty if they can.

        Parameters
        ----------
        family
            The blurs.
        diameter
            Diameter of a bead, in pixels.
        """
        sampling = 1 / family.cutoff
        if sampling < _LEAST_SAMPLING:
            return (
                f"λ/(NA·px) is {sampling:.1f} pixels, but the fit of a bead needs "
                f"at least {_LEAST_SAMPLING:g}"
            )
        if diameter > family.window * _LARGEST_BEAD:
            return (
                f"a bead of {diameter:.0f} pixels is too large for the PSF's window of "
                f"{family.window}"
            )
        return ""

    def shapes(
        self, gamma: torch.Tensor, blur: float, positions: torch.Tensor
    ) -> Shapes:
        """Return the images of beads and their derivatives.

        Parameters
        ----------
        gamma
            (P,), shared by all beads.
        blur
            Variance of the Gaussian in addition to `known_blur`, pixels².
        positions
            (n, 2) row and column of each bead from the centre of its image, pixels.
        """
        psf, jacobian = self.family.psf_and_jacobian(gamma.double())
        spectra = self._transform(torch.cat([psf[None], jacobian]), blur)
        by_blur = -2 * math.pi**2 * self._square * spectra[:1]
        row, column = -2j * math.pi * self._row, -2j * math.pi * self._column
        terms = [spectra, by_blur, row * spectra[:1], column * spectra[:1]]
        images = self._images(torch.cat(terms), positions)
        p = len(gamma)
        return Shapes(images[:, 0], images[:, 1 : p + 2], images[:, p + 2 :])

    def images(
        self, gamma: torch.Tensor, blur: float, positions: torch.Tensor
    ) -> torch.Tensor:
        """Return the images (n, C, C) of beads alone; arguments as in `shapes`."""
        psf = self.family.psf(gamma.double())
        return self._images(self._transform(psf[None], blur), positions)[:, 0]

    def centred(self, gamma: torch.Tensor, blur: float) -> torch.Tensor:
        """Return the images (S, C, C) of one centred bead with each γ (S, P)."""
        spectra = self._transform(self.family.psf(gamma.double()), blur)
        return self._images(spectra, spectra.real.new_zeros(1, 2))[0]

    def crops(
        self, image: NDArray[np.float64], beads: Iterable[Candidate]
    ) -> torch.Tensor:
        """Return the parts (n, C, C) of an image around beads away from its edge."""
        half = self.side // 2
        parts = [
            image[
                b.row - half : b.row + half + 1, b.column - half : b.column + half + 1
            ]
            for b in beads
        ]
        return torch.from_numpy(np.stack(parts))

    def _transform(self, psf: torch.Tensor, blur: float) -> torch.Tensor:
        """Return the spectra of PSFs (k, K, K), times sphere and Gaussian."""
        size = (self._grid, self._grid)
        gaussian = torch.exp(-2 * math.pi**2 * blur * self._square)
        kept = slice(self._cut, self.family.window - self._cut)
        spectra: torch.Tensor = torch.fft.rfft2(psf[..., kept, kept].double(), s=size)
        return spectra * (gaussian * self._fixed)

    def _images(self, spectra: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return (n, k, C, C): images with the spectra (k, ...) at n positions."""
        row, column = positions.double().T[..., None, None]
        shift = torch.exp(-2j * math.pi * (self._row * row + self._column * column))
        size = (self._grid, self._grid)
        images: torch.Tensor = torch.fft.irfft2(spectra * shift[:, None], s=size)
        return images[..., : self.side, : self.side]
