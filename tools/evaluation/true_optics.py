"""PSFs of a real objective, computed without the program's own PSF code.

Only the Zernike polynomials are the program's: they define what a coefficient means.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.optics.zernike import zernike

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["TrueOptics"]

_SAMPLES = 161
# Wavelengths of an emission band, and points per pixel and axis of a pixel's integral:
# Gauss's are exact for intensities, which vary slowly within a pixel.
_WAVELENGTHS = 7
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(3)


@dataclass(frozen=True)
class TrueOptics:
    """An objective and a camera.

    Parameters
    ----------
    numerical_aperture, wavelength_nm, refractive_index, pixel_size_nm
        As in a profile.
    aplanatic
        Whether the pupil has the amplitude 1/√cos θ of a lens that obeys the sine
        condition.
    pixel_integration
        Whether a pixel integrates over its area instead of sampling its centre.
    band_nm
        Full width of the emission band; all wavelengths in it are equally strong.
    exact_defocus
        Whether Noll 4 stands for a shift of the focus with the same Noll 4 content.
    vectorial
        Whether light is a vector: the mean over dipoles that rotate freely.
    """

    numerical_aperture: float = 1.41
    wavelength_nm: float = 540.0
    refractive_index: float = 1.51
    pixel_size_nm: float = 100.0
    aplanatic: bool = False
    pixel_integration: bool = False
    band_nm: float = 0.0
    exact_defocus: bool = False
    vectorial: bool = False

    @cached_property
    def _pupil(self) -> tuple[NDArray[np.bool_], NDArray[np.float64], torch.Tensor]:
        """The points inside, the share of their cells inside, and (2, N) ρ and θ."""
        u = np.linspace(-1, 1, _SAMPLES)
        y, x = np.meshgrid(u, u, indexing="ij")
        rho = np.hypot(x, y)
        share = np.clip((1 - rho) * (_SAMPLES - 1) / 2 + 0.5, 0, 1)
        inside = share > 0
        polar = np.stack([np.minimum(rho, 1), np.arctan2(y, x)])[:, inside]
        return inside, share[inside], torch.from_numpy(polar)

    @cached_property
    def _cosine(self) -> NDArray[np.float64]:
        """(N,) cos θ of the rays through the pupil's points."""
        sine = self.numerical_aperture / self.refractive_index * self._pupil[2][0]
        cosine: NDArray[np.float64] = np.sqrt(1 - sine.numpy() ** 2)
        return cosine

    def _defocus(self, z_um: float) -> NDArray[np.float64]:
        """Return the phase (N,) of a shift of the focus, in waves, without its mean."""
        path = (1 - self._cosine) * self.refractive_index * 1e3 / self.wavelength_nm
        weight = self._pupil[1]
        phase: NDArray[np.float64] = z_um * (path - np.average(path, weights=weight))
        return phase

    @cached_property
    def _fields(self) -> NDArray[np.float64]:
        """(F, N) fields of the components of a dipole, relative to the amplitude.

        A ray's radial part turns by θ on its way to the camera, its tangential part
        does not; the x and y parts of the light of x, y and z dipoles follow. The y
        part of x dipoles is the x part of y dipoles, and is counted twice.
        """
        if not self.vectorial:
            return np.ones((1, self._pupil[2].shape[1]))
        cosine, angle = self._cosine, self._pupil[2][1].numpy()
        sine, c, s = np.sqrt(1 - cosine**2), np.cos(angle), np.sin(angle)
        mixed = (cosine - 1) * c * s
        along_x, along_y = cosine * c**2 + s**2, cosine * s**2 + c**2
        return np.stack([along_x, along_y, mixed, mixed, sine * c, sine * s])

    @cached_property
    def waves_per_um(self) -> float:
        """Noll 4 content, in waves rms, of a shift of the focus by 1 µm."""
        mode = zernike(4, *self._pupil[2]).numpy()
        return float(np.average(self._defocus(1.0) * mode, weights=self._pupil[1]))

    def psf(
        self, modes: Mapping[int, float], z_um: float = 0.0, half: int = 31
    ) -> NDArray[np.float64]:
        """Return the PSF (2·half + 1, 2·half + 1), of sum 1.

        Parameters
        ----------
        modes
            Waves rms at the central wavelength, by Noll index.
        z_um
            Shift of the focus in addition, exact.
        half
            Pixels to each side of the centre.
        """
        inside, share, polar = self._pupil
        phase = self._defocus(z_um)
        for noll, waves in modes.items():
            if noll == 4 and self.exact_defocus:
                phase = phase + self._defocus(waves / self.waves_per_um)
            else:
                phase = phase + waves * zernike(noll, *polar).numpy()
        amplitude = share / np.sqrt(self._cosine) if self.aplanatic else share
        places = np.arange(-half, half + 1.0)
        weights = np.ones(1)
        if self.pixel_integration:
            places = (places[:, None] + _POINTS / 2).ravel()
            weights = _WEIGHTS / 2
        band = np.zeros(1)
        if self.band_nm:
            band = (np.arange(_WAVELENGTHS) + 0.5) / _WAVELENGTHS - 0.5
        total = np.zeros((len(places), len(places)))
        for wavelength in self.wavelength_nm + self.band_nm * band:
            ratio = self.wavelength_nm / wavelength
            wave = amplitude * np.exp(-2j * np.pi * ratio * phase)
            cutoff = self.numerical_aperture * self.pixel_size_nm / wavelength
            u = np.linspace(-1, 1, _SAMPLES)
            transform = np.exp(2j * np.pi * cutoff * places[:, None] * u)
            for component in self._fields:
                field = np.zeros((_SAMPLES, _SAMPLES), complex)
                field[inside] = component * wave
                total += np.abs(transform @ field @ transform.T) ** 2 * ratio**2
        side, points = 2 * half + 1, len(weights)
        cells = total.reshape(side, points, side, points)
        psf: NDArray[np.float64] = np.einsum("ipjq,p,q->ij", cells, weights, weights)
        return psf / psf.sum()
