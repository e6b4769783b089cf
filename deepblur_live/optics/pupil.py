"""From the pupil's wavefront to the PSF on camera pixels, by a matrix transform."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from deepblur_live.optics.zernike import zernike

__all__ = [
    "PUPIL_SAMPLES",
    "UNIFORM",
    "Pupil",
    "PupilShape",
    "defocus_per_um",
    "exact_defocus",
    "pixel_response",
    "pupil",
    "pupil_amplitude",
    "pupil_field",
    "pupil_intensity",
    "vectorial_blur_nm",
]

# Points across the pupil. A PSF agrees with a converged one to 19 dB on 31 points, to
# 45 dB on 127. Odd: the grid is its own mirror image, so the sign ambiguity is exact.
PUPIL_SAMPLES = 127

# Below this NA/n the exact defocus is Noll 4 to seven digits, and its formula loses
# them to rounding.
_LEAST_SINE = 0.02
# cos θ is not taken below this: where the NA reaches the refractive index the aplanatic
# amplitude has no limit at the pupil's edge.
_LEAST_COSINE = 0.1
# Growth of the vectorial blur with sin³α: docs/decisions/0166-vectorial-pupil.md
_VECTORIAL_GROWTH = 0.25


class PupilShape(NamedTuple):
    """What a pupil is apart from its aberrations.

    Parameters
    ----------
    sine
        NA/n, the sine of the half-angle of the light that the objective collects.
    exact_defocus
        Whether Noll 4 is the phase of a shift of the focus, `exact_defocus`, instead of
        the Zernike polynomial.
    apodisation
        Exponent a of the amplitude (cos θ)^(-a/2): 0 for a uniform pupil, 1 for a lens
        that obeys the sine condition.
    """

    sine: float = 0.0
    exact_defocus: bool = False
    apodisation: float = 0.0


UNIFORM = PupilShape()
"""A pupil of constant amplitude, in the paraxial approximation."""


class Pupil(NamedTuple):
    """The pupil on its grid and the transform to camera pixels, for one device."""

    modes: torch.Tensor  # (P, M²) Zernike modes; outside the disc those of its edge
    weight: torch.Tensor  # (M²,) amplitude, times each cell's fraction inside the disc
    transform: torch.Tensor  # (K, M) exp(2πi x u f_c)
    samples: int
    energy: torch.Tensor  # () Σ of the intensity over an infinite pixel grid


@lru_cache(maxsize=32)
def pupil(
    noll: tuple[int, ...],
    cutoff: float,
    window: int,
    samples: int,
    dtype: torch.dtype,
    device: torch.device,
    shape: PupilShape = UNIFORM,
) -> Pupil:
    """Return the cached grid of a pupil.

    Parameters
    ----------
    noll
        Noll indices of the modes.
    cutoff
        Radius of the pupil f_c = NA·px/λ in cycles per pixel.
    window
        Side K of the PSF window in pixels, odd.
    samples
        Grid points M across the pupil's diameter.
    shape
        Its amplitude, and what Noll 4 means.
    """
    # A cell's centre may lie outside while a part of it is inside: the grid spans one
    # cell more than the disc, and edge cells count by the fraction that is inside.
    spacing = 2 / (samples - 1)
    u = torch.linspace(-1, 1, samples, dtype=torch.float64)
    y, x = torch.meshgrid(u, u, indexing="ij")
    rho, theta = torch.hypot(x, y), torch.atan2(y, x)
    share = ((1 - rho) / spacing + 0.5).clamp(0, 1).flatten()
    rho, theta = rho.flatten().clamp(max=1), theta.flatten()
    modes = torch.stack(
        [
            exact_defocus(rho, shape.sine)
            if j == 4 and shape.exact_defocus
            else zernike(j, rho, theta)
            for j in noll
        ]
    )
    pixels = torch.arange(window, dtype=torch.float64) - window // 2
    phase = 2 * math.pi * cutoff * pixels[:, None] * u[None]
    cosine = torch.sqrt(1 - (shape.sine * rho) ** 2).clamp(min=_LEAST_COSINE)
    # Parseval: the amplitude's spectrum is the disc of radius f_c, sampled with the
    # spacing 2 f_c / (M - 1), so that its sums are integrals over that spacing squared.
    amplitude = cosine ** (-shape.apodisation / 2)
    energy = (share * amplitude**2).sum() / (spacing * cutoff) ** 2
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
    return Pupil(
        modes.to(device, dtype),
        (share * amplitude).to(device, dtype),
        torch.exp(1j * phase).to(device, complex_dtype),
        samples,
        energy.to(device, dtype),
    )


def exact_defocus(rho: torch.Tensor, sine: float) -> torch.Tensor:
    """Phase of a shift of the focus, without mean and of unit rms over the pupil.

    It is proportional to -√(1 - (ρ sin α)²), which for small angles is Noll 4.

    Parameters
    ----------
    rho
        Radius in [0, 1].
    sine
        sin α = NA/n.

    References
    ----------
    M. Gu, *Advanced Optical Imaging Theory* (2000), section 6.2: the axial component of
    the wave vector is 2πn/λ·cos θ. Over the unit disc the mean of cos θ is
    2 (1 - cos³α) / (3 sin²α), and that of cos²θ is 1 - sin²α/2.
    """
    if sine < _LEAST_SINE:
        return zernike(4, rho, torch.zeros_like(rho))
    mean, deviation = _cosine_moments(sine)
    return (mean - torch.sqrt(1 - (sine * rho) ** 2)) / deviation


def _cosine_moments(sine: float) -> tuple[float, float]:
    """Return mean and standard deviation of cos θ over the pupil."""
    mean = 2 * (1 - (1 - sine**2) ** 1.5) / (3 * sine**2)
    return mean, math.sqrt(1 - sine**2 / 2 - mean**2)


def defocus_per_um(sine: float, refractive_index: float, wavelength_nm: float) -> float:
    """Return the rms phase, in waves, of a shift of the focus by 1 µm."""
    waves = refractive_index * 1e3 / wavelength_nm
    if sine < _LEAST_SINE:
        return waves * sine**2 / (4 * math.sqrt(3))
    return waves * _cosine_moments(sine)[1]


@lru_cache(maxsize=16)
def pixel_response(
    aperture: float,
    window: int,
    dtype: torch.dtype,
    device: torch.device,
    blur: float = 0.0,
) -> torch.Tensor:
    """Return R (K, K): R h Rᵀ is a PSF h (K, K) integrated over square pixels.

    And convolved with a Gaussian. Exact for a band-limited PSF, up to the window's
    edges: the transfer function sinc(a f)·exp(-2π²σ²f²) along each axis.

    Parameters
    ----------
    aperture
        Side a of a pixel's sensitive area over the distance between pixels, 0 to 1.
    window
        Side K of the PSF.
    blur
        Standard deviation σ of the Gaussian, pixels.
    """
    points, weights = np.polynomial.legendre.leggauss(2 * window + 16)
    frequency = torch.from_numpy(points) / 2
    transfer = torch.sinc(aperture * frequency)
    transfer = transfer * torch.exp(-2 * (math.pi * blur * frequency) ** 2)
    offset = torch.arange(window, dtype=torch.float64)
    offset = offset[:, None, None] - offset[None, :, None]
    wave = torch.cos(2 * math.pi * offset * frequency)
    response = wave @ (transfer * torch.from_numpy(weights / 2))
    return response.to(device, dtype)


def vectorial_blur_nm(
    sine: float, refractive_index: float, wavelength_nm: float
) -> float:
    """Return the Gaussian that the vector nature of light adds to an aplanatic PSF.

    The image of dipoles that rotate freely is the sum of the intensities of five fields
    on the pupil. Their squared amplitudes add to the scalar one's, so the sum differs
    only by the variation of the fields over the pupil, which widens any PSF by a
    variance that does not depend on the aberrations: (λ/n)² / 8π² for small angles.

    Parameters
    ----------
    sine
        sin α = NA/n.
    refractive_index, wavelength_nm
        Index of the immersion, and the wavelength in vacuum, nm.

    Returns
    -------
    float
        Standard deviation in nm in the specimen.

    References
    ----------
    Fields: Axelrod, *Fluorescence excitation and imaging of single molecules near
    dielectric-coated and bare surfaces*, J. Microscopy 247(2) 2012. The variance, and
    how well a Gaussian describes the fields: docs/decisions/0166-vectorial-pupil.md
    """
    widest = wavelength_nm / refractive_index / (math.sqrt(8) * math.pi)
    return widest * (1 + _VECTORIAL_GROWTH * sine**3)


def pupil_field(grid: Pupil, coefficients: torch.Tensor) -> torch.Tensor:
    """Return exp(-2πi Σ γ_k Z_k) on the pupil's grid, (..., M²) complex; 0 outside."""
    phase = -2 * math.pi * (coefficients @ grid.modes)
    return torch.polar(grid.weight.expand_as(phase), phase)


def pupil_amplitude(grid: Pupil, field: torch.Tensor) -> torch.Tensor:
    """Return the amplitude (..., K, K) on camera pixels of a field on the pupil."""
    full = field.reshape(*field.shape[:-1], grid.samples, grid.samples)
    amplitude: torch.Tensor = grid.transform @ full @ grid.transform.T
    return amplitude


def pupil_intensity(grid: Pupil, coefficients: torch.Tensor) -> torch.Tensor:
    """Return the intensity (..., K, K) on camera pixels, not normalised."""
    amplitude = pupil_amplitude(grid, pupil_field(grid, coefficients))
    return amplitude.real**2 + amplitude.imag**2
