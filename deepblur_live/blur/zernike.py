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
from deepblur_live.blur.prior import Box, Prior
from deepblur_live.blur.symmetry import ResolvedBy, Symmetry
from deepblur_live.blur.zernike_causes import zernike_cause
from deepblur_live.optics.pupil import (
    PUPIL_SAMPLES,
    Pupil,
    pupil,
    pupil_amplitude,
    pupil_field,
    pupil_intensity,
)
from deepblur_live.optics.zernike import MODE_NAMES, noll_to_nm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.diagnosis import Cause, ChangeShape
    from deepblur_live.profile import Optics

__all__ = ["PAPER_MODES", "SPHERICAL_MODES", "ZernikeFamily"]

PAPER_MODES = (4, 5, 6, 7, 8, 9, 10)
SPHERICAL_MODES = (*PAPER_MODES, 11)

# Half the PSF window in units of λ/NA: 31 pixels at the paper's optics.
_HALF_WINDOW = 3.9
# Half the usual pupil samples agree to 55 dB, far better than any frame identifies a
# PSF, at a quarter of the cost.
_COARSE_SAMPLES = 63
# Maréchal's criterion: the Strehl ratio of a diffraction-limited system.
_DIFFRACTION_LIMITED = 0.8
# Prior standard deviation of a coefficient, over the half-width of its range.
_PRIOR_SIGMA = 0.6


@dataclass(frozen=True)
class ZernikeFamily:
    """PSFs |F{pupil·exp(-2πi Σ γ_k Z_k)}|² of a few Zernike modes.

    Parameters
    ----------
    numerical_aperture
        NA of the objective.
    wavelength_nm
        Emission wavelength in vacuum, nm.
    refractive_index
        Of the immersion medium; bounds the NA.
    pixel_size_nm
        Camera pixel in the specimen, nm.
    noll
        Noll indices of the modes, waves rms; the paper's 4–10 by default.
    ranges
        Half-width of each mode's range in waves rms (one number serves all).
    pupil_samples
        Points across the pupil, odd.

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

    def __post_init__(self) -> None:
        """Refuse impossible values."""
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
            raise ValueError(f"ranges {self.ranges}: one positive number a mode")
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

    @classmethod
    def from_optics(cls, optics: Optics) -> ZernikeFamily:
        """Return the family for a profile's optics."""
        return cls(
            optics.numerical_aperture,
            optics.wavelength_nm,
            optics.refractive_index,
            optics.pixel_size_nm,
            tuple(optics.noll),
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
    def even(self) -> NDArray[np.bool_]:
        """(P,) True where Z(-ρ) = Z(ρ): the modes whose common sign is ambiguous."""
        return np.array([noll_to_nm(j)[0] % 2 == 0 for j in self.noll])

    @cached_property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """The sign ambiguity of the even modes, the 180° ambiguity of the odd ones."""
        found = []
        if self.even.any():
            names = ", ".join(
                n for n, e in zip(self.names, self.even, strict=True) if e
            )
            found.append(
                Symmetry.sign_change(
                    "sign ambiguity",
                    self.even,
                    ResolvedBy.NEVER,
                    f"The common sign of all even modes ({names}) is ambiguous: both "
                    "signs give the same PSF.",
                )
            )
        if not self.even.all():
            found.append(
                Symmetry.sign_change("180° ambiguity", ~self.even, ResolvedBy.IMAGE)
            )
        return tuple(found)

    @cached_property
    def prior(self) -> Prior:
        """Zero mean, with the ranges as a box."""
        half = np.array(self.half_ranges)
        zero = np.zeros(self.n_coefficients)
        covariance = np.diag((_PRIOR_SIGMA * half) ** 2)
        return Prior(zero, covariance, half, Box(zero, half))

    @cached_property
    def metric(self) -> ChangeMetric:
        """The rms change of the wavefront: the modes are orthonormal."""
        identity = np.eye(self.n_coefficients)
        return ChangeMetric(identity, "waves rms", "nm", self.wavelength_nm, 0)

    @property
    def window(self) -> int:
        """Side K of the PSF window in pixels, odd; see `energy_cut`."""
        return 2 * math.ceil(_HALF_WINDOW / self.cutoff) + 1

    def pupil(self, dtype: torch.dtype, device: torch.device) -> Pupil:
        """Return the pupil's cached grid and transform."""
        return pupil(
            self.noll, self.cutoff, self.window, self.pupil_samples, dtype, device
        )

    def psf(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> torch.Tensor:
        """Return the PSF (..., K, K) of γ (..., P), sum 1; the same everywhere."""
        if coefficients.shape[-1] != self.n_coefficients:
            raise ValueError(
                f"got {coefficients.shape[-1]} coefficients for the "
                f"{self.n_coefficients} modes {self.noll}"
            )
        grid = self.pupil(coefficients.dtype, coefficients.device)
        intensity = pupil_intensity(grid, coefficients)
        return intensity / intensity.sum((-2, -1), keepdim=True)

    def psf_and_jacobian(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the PSF (..., K, K) and its derivatives (..., P, K, K) in γ.

        With a the amplitude, ∂|a|²/∂γ_k = 2 Re(conj(a)·F{-2πi Z_k·field}).
        """
        grid = self.pupil(coefficients.dtype, coefficients.device)
        field = pupil_field(grid, coefficients)
        amplitude = pupil_amplitude(grid, field)
        slopes = pupil_amplitude(grid, -2j * math.pi * grid.modes * field[..., None, :])
        intensity = amplitude.real**2 + amplitude.imag**2
        total = intensity.sum((-2, -1), keepdim=True)
        psf = intensity / total
        slope = 2 * (amplitude[..., None, :, :].conj() * slopes).real
        share = slope.sum((-2, -1), keepdim=True)
        jacobian = (slope - psf[..., None, :, :] * share) / total[..., None, :, :]
        return psf, jacobian

    def energy_cut(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Return the fraction (...) of the PSF's energy outside its window."""
        grid = self.pupil(coefficients.dtype, coefficients.device)
        intensity = pupil_intensity(grid, coefficients)
        return 1 - intensity.sum((-2, -1)) / grid.energy

    def coarse(self) -> ZernikeFamily:
        """Return the family with fewer samples across the pupil."""
        return replace(self, pupil_samples=min(self.pupil_samples, _COARSE_SAMPLES))

    def kernels(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the PSF (..., K, K) of γ (..., P)."""
        return (self.psf(coefficients),)

    def operator_from(
        self,
        kernels: tuple[torch.Tensor, ...],
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> Convolution:
        """Return the convolution with the PSF that `kernels` holds."""
        (psf,) = kernels
        return Convolution(psf, shape, frame)

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
        """Draw (n, P) coefficients, half of them by `sample`, half by `sample_rms`."""
        half = n // 2
        drawn = [self.sample(half, generator), self.sample_rms(n - half, generator)]
        return torch.cat(drawn)

    def canonical(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return γ, or γ with the even modes' signs changed: first even mode ≥ 0."""
        coefficients = np.asarray(coefficients, dtype=np.float64)
        if not self.even.any():
            return coefficients.copy()
        leading = coefficients[..., int(np.argmax(self.even))]
        flip = np.where(leading < 0, -1.0, 1.0)[..., None]
        return np.where(self.even, coefficients * flip, coefficients)

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
