"""The image of one bead in every plane of a stack, through the pupil, with derivatives.

The plane's distance from the focus, the bead's position and its aberrations are phases
in the pupil; sphere, camera pixel and the remaining Gaussian blur act on the intensity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from scipy.fft import next_fast_len

from deepblur_live.identification.beads import sphere_transfer
from deepblur_live.optics.pupil import (
    PupilShape,
    defocus_per_um,
    pupil,
)

if TYPE_CHECKING:
    from deepblur_live.profile import Optics

__all__ = ["BeadParameters", "StackImages", "StackModel"]

# Points across the pupil: PSFs agree with converged ones to 55 dB.
_SAMPLES = 63
# Pixels around an image, besides the bead's radius, that light is blurred in from.
_MARGIN = 6
# Full width at half maximum of a PSF in focus, over λ/NA.
_PSF_WIDTH = 0.51
# Width of a ball, as a Gaussian of the same variance d²/20, over its diameter.
_BALL_WIDTH = 2.355 / math.sqrt(20)
# From this many pixels per λ/NA on, the camera's pixels sample the intensity; coarser
# ones are computed on half of them.
_LEAST_SAMPLING = 3.8
_CPU = torch.device("cpu")


class BeadParameters(NamedTuple):
    """What the images of one bead depend on, apart from background.

    Parameters
    ----------
    coefficients
        (P,) γ of the model's modes, waves rms.
    row, column
        Of the bead from the middle of its crop, pixels.
    z_um
        Of the bead: where the planes' positions have it in focus.
    brightness
        Light of the bead in one plane, over all of an infinite frame.
    blur
        Variance of the Gaussian, pixels².
    """

    coefficients: torch.Tensor
    row: float
    column: float
    z_um: float
    brightness: float
    blur: float

    def vector(self) -> torch.Tensor:
        """Return (P+5,): the coefficients and then the others, in float64."""
        rest = [self.row, self.column, self.z_um, self.brightness, self.blur]
        return torch.cat([self.coefficients.double(), torch.tensor(rest).double()])

    @classmethod
    def of(cls, vector: torch.Tensor) -> BeadParameters:
        """Return the parameters that `vector` (P+5,) holds."""
        return cls(vector[:-5], *vector[-5:].tolist())


class StackImages(NamedTuple):
    """Images of a bead without background, and their derivatives.

    Parameters
    ----------
    image
        (Z, K, K).
    slopes
        (P+5, Z, K, K), in the order of `BeadParameters`.
    """

    image: torch.Tensor
    slopes: torch.Tensor


@dataclass(frozen=True)
class StackModel:
    """Images of a bead in planes at known positions of the focus drive.

    The scalar pupil of `deepblur_live.optics.pupil`: exact defocus, so that the
    distance of the planes is not a free parameter, and the profile's apodisation. The
    total light is the same in all planes: no image is normalised in its window.

    Parameters
    ----------
    optics
        NA, wavelength, index, pixel, apodisation.
    noll
        Modes, without defocus (Noll 4), which is the bead's z.
    diameter_nm
        Of a bead.
    z_um
        Position of each plane; larger is deeper in the specimen.
    side
        K of the crops, odd.
    dtype
        Of the images; float32 agrees with float64 to 1e-5 of the peak.
    """

    optics: Optics
    noll: tuple[int, ...]
    diameter_nm: float
    z_um: tuple[float, ...]
    side: int
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        """Refuse defocus as a mode: it is the bead's z."""
        if min(self.noll) < 5:
            raise ValueError(f"noll {self.noll}: defocus is the bead's z, not a mode")

    @property
    def cutoff(self) -> float:
        """NA·px/λ of the camera's pixels, cycles per pixel."""
        optics = self.optics
        return optics.numerical_aperture * optics.pixel_size_nm / optics.wavelength_nm

    @property
    def fwhm(self) -> float:
        """Full width at half maximum of the PSF in focus, pixels."""
        return _PSF_WIDTH / self.cutoff

    @property
    def bead_width(self) -> float:
        """Full width at half maximum of a bead in focus, pixels."""
        diameter = self.diameter_nm / self.optics.pixel_size_nm
        return math.hypot(self.fwhm, _BALL_WIDTH * diameter)

    @property
    def largest_blur(self) -> float:
        """Largest variance of the Gaussian, pixels²: half of the PSF's width."""
        return (self.fwhm / 2) ** 2

    @cached_property
    def waves_per_um(self) -> float:
        """Rms phase of a shift of the focus by 1 µm, waves."""
        optics = self.optics
        return defocus_per_um(
            optics.numerical_aperture / optics.refractive_index,
            optics.refractive_index,
            optics.wavelength_nm,
        )

    @cached_property
    def _finer(self) -> int:
        """Computed points per camera pixel, along an axis; odd, to share the middle."""
        return 1 if 1 / self.cutoff >= _LEAST_SAMPLING else 3

    @cached_property
    def _margin(self) -> int:
        """Computed points around the crop."""
        radius = self.diameter_nm / 2 / self.optics.pixel_size_nm
        return self._finer * (math.ceil(radius) + _MARGIN)

    @cached_property
    def _points(self) -> int:
        least = self._finer * self.side + 2 * self._margin
        return int(next_fast_len(least, real=True)) | 1

    @cached_property
    def _pupil(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Modes (P+1, M²), weight (M²,), transform (G, M), slope of a tilt (M,)."""
        optics = self.optics
        shape = PupilShape(
            optics.numerical_aperture / optics.refractive_index,
            True,
            optics.apodisation,
        )
        cutoff = self.cutoff / self._finer
        grid = pupil(
            (4, *self.noll), cutoff, self._points, _SAMPLES, self.dtype, _CPU, shape
        )
        # A PSF's light over all pixels is 1, in camera pixels.
        weight = grid.weight / grid.energy.sqrt()
        tilt = torch.linspace(-1, 1, _SAMPLES, dtype=torch.float64)
        return grid.modes, weight, grid.transform, 2 * math.pi * self.cutoff * tilt

    @cached_property
    def _transfer(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of sphere and pixel, (G, G//2+1), and the squared frequency per pixel."""
        row = torch.fft.fftfreq(self._points, dtype=torch.float64)[:, None]
        column = torch.fft.rfftfreq(self._points, dtype=torch.float64)[None]
        row, column = row * self._finer, column * self._finer
        square = row**2 + column**2
        aperture = self.optics.pixel_aperture
        fixed = torch.sinc(aperture * row) * torch.sinc(aperture * column)
        diameter = self.diameter_nm / self.optics.pixel_size_nm
        fixed = fixed * sphere_transfer(diameter, square.sqrt())
        # Light per camera pixel, not per computed point.
        return fixed * self._finer**2, square

    def with_aperture(self, numerical_aperture: float) -> StackModel:
        """Return the model with another NA."""
        optics = self.optics.model_copy(
            update={"numerical_aperture": numerical_aperture}
        )
        return replace(self, optics=optics)

    def images(self, bead: BeadParameters) -> torch.Tensor:
        """Return the images (Z, K, K) of a bead."""
        rows, columns = self._shifted(bead)
        amplitude = self._amplitude(self._fields(bead), rows, columns)
        light = amplitude.real**2 + amplitude.imag**2
        spectrum = torch.fft.rfft2(light) * self._blurred(bead.blur)
        return bead.brightness * self._cropped(spectrum)

    def images_and_slopes(
        self, bead: BeadParameters, *, by_modes: bool = True
    ) -> StackImages:
        """Return the images of a bead and their derivatives.

        Without `by_modes` those in the coefficients, which take most of the time, are
        left zero.
        """
        modes, _, _, tilt = self._pupil
        if not by_modes:
            modes = modes[:1]
        fields = self._fields(bead)
        rows, columns = self._shifted(bead)
        amplitude = self._amplitude(fields, rows, columns)
        # Noll 4 comes first: its coefficient is the plane's distance from the bead.
        turned = (-2j * math.pi * modes) * fields[:, None]
        by_mode = self._amplitude(turned, rows, columns)
        slope = (-1j * tilt).to(rows.dtype)
        by_row = self._amplitude(fields, rows * slope, columns)
        by_column = self._amplitude(fields, rows, columns * slope)
        change = torch.cat([by_mode, by_row[:, None], by_column[:, None]], 1)
        change = 2 * (amplitude.conj()[:, None] * change).real
        light = amplitude.real**2 + amplitude.imag**2
        spectra = torch.fft.rfft2(torch.cat([light[:, None], change], 1))
        spectra = spectra * self._blurred(bead.blur)
        square = self._transfer[1].to(self.dtype)
        by_blur = -2 * math.pi**2 * square * spectra[:, :1]
        images = self._cropped(torch.cat([spectra, by_blur], 1)).movedim(0, 1)
        n, p, image = bead.brightness, len(self.noll), images[0]
        slopes = image.new_zeros(p + 5, *image.shape)
        if by_modes:
            slopes[:p] = n * images[2:-3]
        slopes[p : p + 2] = n * images[-3:-1]
        slopes[p + 2] = -n * self.waves_per_um * images[1]
        slopes[p + 3] = image
        slopes[p + 4] = n * images[-1]
        return StackImages(n * image, slopes)

    def _fields(self, bead: BeadParameters) -> torch.Tensor:
        """Return the field in the pupil (Z, M²) for each plane."""
        modes, weight, _, _ = self._pupil
        planes = torch.tensor(self.z_um, dtype=torch.float64) - bead.z_um
        aberration = bead.coefficients.to(self.dtype) @ modes[1:]
        defocus = (self.waves_per_um * planes).to(self.dtype)[:, None] * modes[0]
        phase = -2 * math.pi * (aberration + defocus)
        return torch.polar(weight.expand_as(phase), phase)

    def _shifted(self, bead: BeadParameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the transforms (G, M) to rows and columns around the bead."""
        _, _, transform, tilt = self._pupil
        return (
            transform * torch.exp(-1j * tilt * bead.row).to(transform.dtype),
            transform * torch.exp(-1j * tilt * bead.column).to(transform.dtype),
        )

    @staticmethod
    def _amplitude(
        fields: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor:
        """Return the amplitude (..., G, G) of fields (..., M²)."""
        points, samples = rows.shape
        # Two large products instead of a batch of small ones.
        half = fields.reshape(-1, samples) @ columns.T
        half = half.reshape(-1, samples, points).transpose(1, 2)
        whole = half.reshape(-1, samples) @ rows.T
        whole = whole.reshape(-1, points, points).transpose(1, 2)
        return whole.reshape(*fields.shape[:-1], points, points)

    def _blurred(self, blur: float) -> torch.Tensor:
        fixed, square = self._transfer
        return (fixed * torch.exp(-2 * math.pi**2 * blur * square)).to(self.dtype)

    def _cropped(self, spectra: torch.Tensor) -> torch.Tensor:
        """Return images (..., K, K) on camera pixels of spectra (..., G, G//2+1)."""
        size = (self._points, self._points)
        images: torch.Tensor = torch.fft.irfft2(spectra, s=size)
        first = self._points // 2 - self._finer * (self.side // 2)
        kept = slice(first, first + self._finer * (self.side - 1) + 1, self._finer)
        return images[..., kept, kept]
