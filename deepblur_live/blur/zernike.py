"""The family of blurs of a microscope with a few Zernike aberrations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.convolution import Convolution
from deepblur_live.blur.family import ChangeMetric, Quality
from deepblur_live.blur.marginal import marginal_kernels
from deepblur_live.blur.prior import Box, Prior
from deepblur_live.blur.symmetry import Symmetry, parity_symmetries, with_positive_even
from deepblur_live.blur.zernike_causes import zernike_cause
from deepblur_live.optics.pupil import (
    PUPIL_SAMPLES,
    Pupil,
    PupilShape,
    defocus_per_um,
    pixel_response,
    pupil,
    pupil_amplitude,
    pupil_field,
    pupil_intensity,
    vectorial_blur_nm,
)
from deepblur_live.optics.zernike import MODE_NAMES, noll_to_nm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.diagnosis import Cause, ChangeShape
    from deepblur_live.profile import Optics

__all__ = ["PAPER_MODES", "SPHERICAL_MODES", "ZernikeFamily"]

PAPER_MODES = (4, 5, 6, 7, 8, 9, 10)
SPHERICAL_MODES = (*PAPER_MODES, 11)

# Least half of the PSF window in units of λ/NA: 31 pixels at the paper's optics. It
# grows until it holds this share of the energy at the ends of the range of defocus, up
# to what fits into a window of the spectrum.
_HALF_WINDOW, _LEAST_ENERGY, _LARGEST_WINDOW = 3.9, 0.9, 63
# Half the usual pupil samples agree to 55 dB, far better than any frame identifies a
# PSF, at a quarter of the cost.
_COARSE_SAMPLES = 63
# Maréchal's criterion: the Strehl ratio of a diffraction-limited system.
_DIFFRACTION_LIMITED = 0.8
# Prior standard deviation of a coefficient over the half-width of its range, which
# counts up to the second number (waves rms): most defocus is small.
_PRIOR_SIGMA, _USUAL_RANGE = 0.6, 0.33
# A wavefront error that is small for a good microscope, waves rms; Maréchal's is 0.071.
_SMALL = 0.035
# Errors are measured relative to a mode's range, but at most to this, in waves rms.
_LARGEST_SCALE = 0.15
# Ranges of the default family, waves rms: spherical aberration by immersion or cover
# glass is larger than the others'.
_RANGE, _SPHERICAL_RANGE = 0.15, 0.2
# Largest fixed Gaussian, as a standard deviation over λ/NA; the PSF in focus has 0.2.
_WIDEST_BLUR = 0.5
# Wavelengths that represent an emission band (nodes of the Gauss–Legendre rule).
_BAND_LINES = 3


@dataclass(frozen=True)
class ZernikeFamily:
    """PSFs |F{pupil·exp(-2πi Σ γ_k Z_k)}|² of a few Zernike modes.

    The defaults are the paper's: a uniform pupil, paraxial defocus, pixels without
    area. `from_optics` makes the family of a real objective and camera.

    Parameters
    ----------
    numerical_aperture
        NA of the objective.
    wavelength_nm
        Emission wavelength in vacuum, nm.
    refractive_index
        Index of the immersion medium; bounds the NA.
    pixel_size_nm
        Camera pixel in the specimen, nm.
    noll
        Noll indices of the modes, waves rms; the paper's 4–10 by default.
    ranges
        Half-width of each mode's range in waves rms (one number serves all).
    pupil_samples
        Points across the pupil, odd.
    exact_defocus
        Whether the coefficient of Noll 4 is a shift of the focus, with the phase
        √(n² - NA²ρ²), in waves rms; otherwise its paraxial form, the polynomial.
    apodisation
        Exponent a of the pupil's amplitude (cos θ)^(-a/2): 0 uniform, 1 aplanatic.
    pixel_aperture
        Side of a pixel's sensitive area over the distance between pixels. The PSF is
        integrated over it; 0 for points.
    bandwidth_nm
        Full width of the emission band in nm; 0 for a single wavelength.
    extra_blur_nm
        Standard deviation, in nm in the specimen, of a Gaussian that all PSFs are
        convolved with: blur of an instrument that the pupil does not describe.

    Raises
    ------
    ValueError
        When a value is impossible; the text names it.

    References
    ----------
    Debarnot & Weiss, *Deep-Blur*, Biological Imaging 4:e13 (2024), section 3.
    """

    numerical_aperture: float = 1.41
    wavelength_nm: float = 540.0
    refractive_index: float = 1.51
    pixel_size_nm: float = 100.0
    noll: tuple[int, ...] = PAPER_MODES
    ranges: tuple[float, ...] | float = 0.15
    pupil_samples: int = PUPIL_SAMPLES
    exact_defocus: bool = False
    apodisation: float = 0.0
    pixel_aperture: float = 0.0
    bandwidth_nm: float = 0.0
    extra_blur_nm: float = 0.0

    def __post_init__(self) -> None:
        """Check the parameters."""
        object.__setattr__(self, "noll", tuple(self.noll))
        if isinstance(self.ranges, (int, float)):
            object.__setattr__(self, "ranges", (float(self.ranges),) * len(self.noll))
        object.__setattr__(self, "ranges", tuple(self.half_ranges))
        if not self.noll or len(set(self.noll)) != len(self.noll) or min(self.noll) < 4:
            raise ValueError(
                f"noll {self.noll}: give different Noll indices from 4 (defocus) on; "
                "1 to 3 (piston, tilts) do not blur"
            )
        if len(self.half_ranges) != len(self.noll) or min(self.half_ranges) <= 0:
            raise ValueError(f"ranges {self.ranges}: give one positive number per mode")
        if not 0 < self.numerical_aperture <= self.refractive_index:
            raise ValueError(
                f"numerical_aperture {self.numerical_aperture}: must lie between 0 "
                f"and the refractive index {self.refractive_index}"
            )
        if not self.cutoff < 0.5:
            raise ValueError(
                f"pixel_size_nm {self.pixel_size_nm}: λ/(NA·px) is "
                f"{1 / self.cutoff:.2f} pixels; the PSF needs more than 2"
            )
        if self.pupil_samples % 2 == 0 or self.pupil_samples < 31:
            raise ValueError(f"pupil_samples {self.pupil_samples}: odd, from 31 on")
        for name in ("apodisation", "pixel_aperture"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}: must be from 0 to 1")
        if not 0 <= self.bandwidth_nm < self.wavelength_nm:
            raise ValueError(
                f"bandwidth_nm {self.bandwidth_nm}: must be from 0 to below the "
                f"wavelength {self.wavelength_nm}"
            )
        # A wider Gaussian leaves nothing for the pupil to describe.
        widest = _WIDEST_BLUR * self.wavelength_nm / self.numerical_aperture
        if not 0 <= self.extra_blur_nm <= widest:
            raise ValueError(
                f"extra_blur_nm {self.extra_blur_nm:g}: must be from 0 to "
                f"{_WIDEST_BLUR:g} λ/NA, here {widest:.0f} nm"
            )

    @classmethod
    def from_optics(cls, optics: Optics) -> ZernikeFamily:
        """Return the family for a profile's optics."""
        noll = tuple(optics.noll)
        exact = optics.defocus == "exact"
        sine = optics.numerical_aperture / optics.refractive_index
        # The paraxial defocus has the same rms as the exact one, so that both mean the
        # same by a wave.
        defocus = optics.defocus_range_um * defocus_per_um(
            sine, optics.refractive_index, optics.wavelength_nm
        )
        special = {4: defocus, 11: _SPHERICAL_RANGE}
        blur = optics.extra_blur_nm
        if blur == "vectorial":
            blur = vectorial_blur_nm(
                sine, optics.refractive_index, optics.wavelength_nm
            )
        return cls(
            optics.numerical_aperture,
            optics.wavelength_nm,
            optics.refractive_index,
            optics.pixel_size_nm,
            noll,
            tuple(special.get(j, _RANGE) for j in noll),
            exact_defocus=exact,
            apodisation=optics.apodisation,
            pixel_aperture=optics.pixel_aperture,
            bandwidth_nm=optics.bandwidth_nm,
            extra_blur_nm=blur,
        )

    @property
    def half_ranges(self) -> tuple[float, ...]:
        """Half-width of each mode's range, waves rms."""
        assert not isinstance(self.ranges, float)
        return self.ranges

    @property
    def n_coefficients(self) -> int:
        """Number of modes P."""
        return len(self.noll)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each mode."""
        return tuple(MODE_NAMES.get(j, f"Noll {j}") for j in self.noll)

    @property
    def unit(self) -> str:
        """Unit of the coefficients."""
        return "waves rms"

    @property
    def cutoff(self) -> float:
        """Coherent cut-off NA·px/λ, cycles per pixel; the OTF is 0 beyond twice it."""
        return self.numerical_aperture * self.pixel_size_nm / self.wavelength_nm

    @property
    def extra_blur(self) -> float:
        """Standard deviation of the Gaussian in every PSF, pixels."""
        return self.extra_blur_nm / self.pixel_size_nm

    @property
    def even(self) -> NDArray[np.bool_]:
        """(P,) True where Z(-ρ) = Z(ρ): the modes whose common sign is ambiguous."""
        return np.array([noll_to_nm(j)[0] % 2 == 0 for j in self.noll])

    @cached_property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """The sign ambiguity of the even modes, the 180° ambiguity of the odd ones."""
        names = ", ".join(n for n, e in zip(self.names, self.even, strict=True) if e)
        return parity_symmetries(
            self.even,
            f"The common sign of all even modes ({names}) is ambiguous: both signs "
            "give the same PSF.",
        )

    @cached_property
    def prior(self) -> Prior:
        """Zero mean, with the ranges as a box."""
        half = np.array(self.half_ranges)
        zero = np.zeros(self.n_coefficients)
        sigma = _PRIOR_SIGMA * np.minimum(half, _USUAL_RANGE)
        scale = np.minimum(half, _LARGEST_SCALE)
        small = np.full(self.n_coefficients, _SMALL)
        return Prior(zero, np.diag(sigma**2), scale, Box(zero, half), small=small)

    @cached_property
    def focus_direction(self) -> NDArray[np.float64] | None:
        """(P,) change of γ when the focus moves by 1 µm; None without defocus.

        Exact with `exact_defocus`.
        """
        if 4 not in self.noll:
            return None
        per_um = defocus_per_um(self._sine, self.refractive_index, self.wavelength_nm)
        direction: NDArray[np.float64] = per_um * (np.array(self.noll) == 4)
        return direction

    @property
    def _sine(self) -> float:
        return self.numerical_aperture / self.refractive_index

    @cached_property
    def metric(self) -> ChangeMetric:
        """The rms change of the wavefront: the modes are orthonormal."""
        identity = np.eye(self.n_coefficients)
        return ChangeMetric(identity, "waves rms", "nm", self.wavelength_nm, 0)

    @cached_property
    def window(self) -> int:
        """Side K of the PSF window in pixels, odd; see `energy_cut`."""
        least = 2 * math.ceil(_HALF_WINDOW / self.cutoff) + 1
        if 4 not in self.noll or least >= _LARGEST_WINDOW:
            return least
        ends = torch.zeros(self.n_coefficients, dtype=torch.float64)
        ends[self.noll.index(4)] = self.half_ranges[self.noll.index(4)]
        grid = self._pupil(_LARGEST_WINDOW, _COARSE_SAMPLES, ends.dtype, ends.device)
        energy = pupil_intensity(grid, ends) / grid.energy
        if self.extra_blur:
            response = self._response(_LARGEST_WINDOW, ends.dtype, ends.device)
            energy = response @ energy @ response.T
        # Energy within squares about the centre, from the smallest.
        row = (torch.arange(_LARGEST_WINDOW) - _LARGEST_WINDOW // 2).abs()
        ring = torch.maximum(row[:, None], row).flatten()
        within = torch.zeros(_LARGEST_WINDOW // 2 + 1, dtype=torch.float64)
        within = within.index_add(0, ring, energy.flatten()).cumsum(0)
        enough = int((within < _LEAST_ENERGY).sum())
        return max(least, min(2 * enough + 1, _LARGEST_WINDOW))

    def pupil(self, dtype: torch.dtype, device: torch.device) -> Pupil:
        """Return the pupil's cached grid and transform, at the central wavelength."""
        return self._pupil(self.window, self.pupil_samples, dtype, device)

    def _pupil(
        self,
        window: int,
        samples: int,
        dtype: torch.dtype,
        device: torch.device,
        ratio: float = 1.0,
    ) -> Pupil:
        """Return a pupil; `ratio` is the central wavelength over the pupil's."""
        shape = PupilShape(self._sine, self.exact_defocus, self.apodisation)
        cutoff = self.cutoff * ratio
        return pupil(self.noll, cutoff, window, samples, dtype, device, shape)

    def _response(
        self, window: int, dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """Return the matrix of pixel integration and Gaussian, see `pixel_response`."""
        return pixel_response(
            self.pixel_aperture, window, dtype, device, self.extra_blur
        )

    @cached_property
    def _lines(self) -> tuple[tuple[float, float], ...]:
        """Ratio of the central wavelength to each line's, and the line's weight."""
        if not self.bandwidth_nm:
            return ((1.0, 1.0),)
        points, weights = np.polynomial.legendre.leggauss(_BAND_LINES)
        wavelengths = self.wavelength_nm + self.bandwidth_nm / 2 * points
        ratios = self.wavelength_nm / wavelengths
        return tuple(zip(ratios.tolist(), (weights / 2).tolist(), strict=True))

    def _intensity(
        self, coefficients: torch.Tensor, slopes: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the light (..., K, K) on the pixels, 1 in all without truncation.

        And, if asked for, its derivatives (..., P, K, K): with a the amplitude,
        ∂|a|²/∂γ_k = 2 Re(conj(a)·F{-2πi Z_k·field}).
        """
        if coefficients.shape[-1] != self.n_coefficients:
            raise ValueError(
                f"got {coefficients.shape[-1]} coefficients for the "
                f"{self.n_coefficients} modes {self.noll}"
            )
        dtype, device = coefficients.dtype, coefficients.device
        light: torch.Tensor | None = None
        change: torch.Tensor | None = None
        for ratio, weight in self._lines:
            grid = self._pupil(self.window, self.pupil_samples, dtype, device, ratio)
            field = pupil_field(grid, ratio * coefficients)
            amplitude = pupil_amplitude(grid, field)
            intensity = amplitude.real**2 + amplitude.imag**2
            share = weight / grid.energy
            light = share * intensity + (0 if light is None else light)
            if slopes:
                turned = -2j * math.pi * ratio * grid.modes * field[..., None, :]
                slope = amplitude[..., None, :, :].conj() * pupil_amplitude(
                    grid, turned
                )
                change = 2 * share * slope.real + (0 if change is None else change)
        assert light is not None
        if self.pixel_aperture or self.extra_blur:
            response = self._response(self.window, dtype, device)
            light = response @ light @ response.T
            change = None if change is None else response @ change @ response.T
        return light, change

    def psf(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> torch.Tensor:
        """Return the PSF (..., K, K) of γ (..., P), sum 1; the same everywhere.

        The integration over a pixel and the fixed Gaussian are part of it.
        """
        light, _ = self._intensity(coefficients, slopes=False)
        return light / light.sum((-2, -1), keepdim=True)

    def psf_and_jacobian(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the PSF (..., K, K) and its derivatives (..., P, K, K) in γ."""
        light, change = self._intensity(coefficients, slopes=True)
        assert change is not None
        total = light.sum((-2, -1), keepdim=True)
        psf = light / total
        share = change.sum((-2, -1), keepdim=True)
        return psf, (change - psf[..., None, :, :] * share) / total[..., None, :, :]

    def energy_cut(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Return the fraction (...) of the PSF's energy outside its window."""
        light, _ = self._intensity(coefficients, slopes=False)
        return 1 - light.sum((-2, -1))

    def coarse(self) -> ZernikeFamily:
        """Return the family with fewer samples across the pupil."""
        return replace(self, pupil_samples=min(self.pupil_samples, _COARSE_SAMPLES))

    def kernels(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the PSF (..., K, K) of γ (..., P)."""
        return (self.psf(coefficients),)

    def expected_kernels(
        self, coefficients: torch.Tensor, covariance: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return `marginal_kernels` of γ (..., P) with a covariance (..., P, P)."""
        return marginal_kernels(self.psf, coefficients, covariance)

    def operator_from(
        self,
        kernels: tuple[torch.Tensor, ...],
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> Convolution:
        """Return the convolution with the PSF that `kernels` holds.

        That of an uncertain PSF if they are from `expected_kernels`.
        """
        psf, *spread = kernels
        return Convolution(psf, shape, frame, *spread)

    def operator(
        self,
        coefficients: torch.Tensor,
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> Convolution:
        """Return A(γ), the convolution with the PSF of γ; see `Convolution`."""
        return self.operator_from(self.kernels(coefficients), shape, frame)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw (n, P) coefficients, uniform in the box of the ranges (the paper's)."""
        unit = torch.rand(n, self.n_coefficients, generator=generator) * 2 - 1
        return unit * torch.tensor(self.half_ranges)

    def sample_rms(
        self, n: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw (n, P) coefficients of random direction and uniform size in the box.

        A good microscope is near zero, where uniform draws from the box are rare.
        """
        half = torch.tensor(self.half_ranges)
        direction = torch.randn(n, self.n_coefficients, generator=generator) * half
        direction = direction / direction.norm(dim=1, keepdim=True)
        # The largest size along this direction that stays inside the box.
        reach = (half / direction.abs().clamp(min=1e-9)).min(dim=1, keepdim=True).values
        drawn: torch.Tensor = direction * reach * torch.rand(n, 1, generator=generator)
        return drawn

    def search_points(
        self, n: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw (n, P) coefficients, half of them by `sample_rms`, half uniform.

        Strong defocus is rare: only a quarter are from the whole box, the others from
        where the prior's scale is.
        """
        usual = replace(self, ranges=tuple(self.prior.scale.tolist()))
        half, quarter = n // 2, n // 4
        drawn = [
            usual.sample_rms(half, generator),
            usual.sample(n - half - quarter, generator),
            self.sample(quarter, generator),
        ]
        return torch.cat(drawn)

    def canonical(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return γ, or γ with the even modes' signs changed: first even mode ≥ 0."""
        return with_positive_even(coefficients, self.even)

    def wavefront_rms(
        self, coefficients: NDArray[np.float64]
    ) -> NDArray[np.float64] | np.float64:
        """Return the rms wavefront error in waves: the modes are orthonormal."""
        rms: NDArray[np.float64] | np.float64 = np.sqrt(
            np.sum(np.square(np.asarray(coefficients, dtype=np.float64)), axis=-1)
        )
        return rms

    def strehl(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the Strehl ratio: on-axis intensity over the unaberrated one."""
        gamma = torch.as_tensor(np.asarray(coefficients), dtype=torch.float64)
        grid = self.pupil(torch.float64, gamma.device)
        axis = pupil_field(grid, gamma).sum(-1).abs() / grid.weight.sum()
        result: NDArray[np.float64] = (axis**2).numpy()
        return result

    def quality(self, coefficients: NDArray[np.float64]) -> tuple[Quality, ...]:
        """Return the wavefront error and the Strehl ratio of γ (P,)."""
        rms = float(self.wavefront_rms(coefficients))
        strehl = float(self.strehl(coefficients))
        return (
            Quality("wavefront rms", rms, "waves", "nm", self.wavelength_nm),
            Quality("Strehl", strehl, reference=_DIFFRACTION_LIMITED),
        )

    def describe(self) -> str:
        """Return the sampling, and how much of the PSF's energy its window cuts off."""
        draws = self.sample(64, torch.Generator().manual_seed(0))
        focus = float(self.energy_cut(torch.zeros(self.n_coefficients)))
        return (
            f"λ/(NA·px) {1 / self.cutoff:.2f} pixels; the PSF window of "
            f"{self.window} × {self.window} pixels cuts {focus:.1%} of the energy in "
            f"focus, up to {float(self.energy_cut(draws).max()):.1%} within the range "
            "of the family"
        )

    def diagnose(self, change: NDArray[np.float64], shape: ChangeShape) -> Cause:
        """Return the likely cause of a change (P,) of the modes."""
        return zernike_cause(self.noll, change, shape)
