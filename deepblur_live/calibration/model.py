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

# Points across the pupil: PSFs agree with converged ones to 49 dB, fits to 0.07 nm
# (docs/decisions/0246-cost-of-a-calibration.md).
_SAMPLES = 47
# Pixels around an image, in addition to the bead's radius, from which light is blurred
# into it.
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
        Position of the bead relative to the centre of its crop, pixels.
    z_um
        Position of the planes, µm, at which the bead is in focus.
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
    """Images of beads without background, and their derivatives.

    Parameters
    ----------
    images
        (n, Z, K, K).
    slopes
        (n, P+5, Z, K, K), in the order of `BeadParameters`.
    """

    images: torch.Tensor
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
        Diameter of a bead, nm.
    z_um
        Position of each plane, µm; larger is deeper in the specimen.
    side
        Side K of the crops in pixels, odd.
    dtype
        Data type of the images; float32 agrees with float64 to 1e-5 of the peak.
    """

    optics: Optics
    noll: tuple[int, ...]
    diameter_nm: float
    z_um: tuple[float, ...]
    side: int
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        """Check that defocus is not among the modes: it is the bead's z."""
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
        return int(next_fast_len(least, real=True))

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
        """OTF of sphere and pixel (G, G//2+1), and the squared frequency, 1/pixel²."""
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

    def image(self, bead: BeadParameters) -> torch.Tensor:
        """Return the images (Z, K, K) of one bead."""
        return self.images(bead.vector()[None])[0]

    def images(self, beads: torch.Tensor) -> torch.Tensor:
        """Return the images (n, Z, K, K) of beads (n, P+5), see `BeadParameters`."""
        rows, columns = self._shifted(beads)
        amplitude = self._amplitude(self._fields(beads), rows, columns)
        spectra = torch.fft.rfft2(amplitude.real**2 + amplitude.imag**2)
        images = self._cropped(spectra * self._blurred(beads)[:, None])
        return beads[:, -2, None, None, None].to(self.dtype) * images

    def images_and_slopes(
        self, beads: torch.Tensor, *, by_modes: bool = True
    ) -> StackImages:
        """Return the images of beads (n, P+5) and their derivatives.

        Without `by_modes` those in the coefficients, which take most of the time, are
        left out: slopes are (n, 5, Z, K, K).
        """
        modes, _, _, tilt = self._pupil
        if not by_modes:
            modes = modes[:1]
        fields = self._fields(beads)
        rows, columns = self._shifted(beads)
        amplitude = self._amplitude(fields, rows, columns)
        # Noll 4 comes first: its coefficient is the plane's distance from the bead.
        turned = (-2j * math.pi * fields[:, None]) * modes[:, None]
        slope = (-1j * tilt).to(rows.dtype)
        change = torch.cat(
            [
                self._amplitude(turned, rows, columns),
                self._amplitude(fields, rows * slope, columns)[:, None],
                self._amplitude(fields, rows, columns * slope)[:, None],
            ],
            1,
        )
        change = 2 * (amplitude.conj()[:, None] * change).real
        light = amplitude.real**2 + amplitude.imag**2
        spectra = torch.fft.rfft2(torch.cat([light[:, None], change], 1))
        spectra = spectra * self._blurred(beads)[:, None, None]
        square = self._transfer[1].to(self.dtype)
        by_blur = -2 * math.pi**2 * square * spectra[:, :1]
        images = self._cropped(torch.cat([spectra, by_blur], 1))
        n = beads[:, -2, None, None, None, None].to(self.dtype)
        image, by_focus = images[:, :1], -self.waves_per_um * images[:, 1:2]
        slopes = [n * images[:, 2:-1], n * by_focus, image, n * images[:, -1:]]
        return StackImages((n * image)[:, 0], torch.cat(slopes, 1))

    def _fields(self, beads: torch.Tensor) -> torch.Tensor:
        """Return the fields in the pupil (n, Z, M²) for each plane."""
        modes, weight, _, _ = self._pupil
        planes = torch.tensor(self.z_um, dtype=torch.float64) - beads[:, -3, None]
        aberration = beads[:, :-5].to(self.dtype) @ modes[1:]
        defocus = (self.waves_per_um * planes).to(self.dtype)[..., None] * modes[0]
        phase = -2 * math.pi * (aberration[:, None] + defocus)
        return torch.polar(weight.expand_as(phase), phase)

    def _shifted(self, beads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the transforms (n, G, M) to rows and columns around the beads."""
        _, _, transform, tilt = self._pupil
        turns = torch.exp(-1j * tilt * beads[:, -5:-3, None]).to(transform.dtype)
        rows, columns = (transform * turns[:, :, None]).unbind(1)
        return rows, columns

    @staticmethod
    def _amplitude(
        fields: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
    ) -> torch.Tensor:
        """Return the amplitudes (n, ..., G, G) of fields (n, ..., M²)."""
        n, points, samples = rows.shape
        # Two large products per bead instead of many small ones.
        half = fields.reshape(n, -1, samples) @ columns.mT
        half = half.reshape(n, -1, samples, points).transpose(2, 3)
        whole = half.reshape(n, -1, samples) @ rows.mT
        whole = whole.reshape(n, -1, points, points).transpose(2, 3)
        return whole.reshape(*fields.shape[:-1], points, points)

    def _blurred(self, beads: torch.Tensor) -> torch.Tensor:
        fixed, square = self._transfer
        blur = beads[:, -1, None, None]
        return (fixed * torch.exp(-2 * math.pi**2 * blur * square)).to(self.dtype)

    def _cropped(self, spectra: torch.Tensor) -> torch.Tensor:
        """Return images (..., K, K) on camera pixels of spectra (..., G, G//2+1)."""
        size = (self._points, self._points)
        images: torch.Tensor = torch.fft.irfft2(spectra, s=size)
        first = self._points // 2 - self._finer * (self.side // 2)
        kept = slice(first, first + self._finer * (self.side - 1) + 1, self._finer)
        return images[..., kept, kept]
