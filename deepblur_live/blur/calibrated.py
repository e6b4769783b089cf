"""The family of one microscope: Zernike blurs with a mean and covariance learned there.

`deepblur_live.calibration.learn_family` makes it from measured states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import chdtri

from deepblur_live.blur.learned_prior import LearnedPrior
from deepblur_live.blur.marginal import marginal_kernels
from deepblur_live.blur.prior import Prior
from deepblur_live.blur.symmetry import ResolvedBy, Symmetry, orbit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from deepblur_live.blur.diagnosis import Cause, ChangeShape
    from deepblur_live.blur.family import ChangeMetric, Quality
    from deepblur_live.blur.operator import LinearBlur
    from deepblur_live.blur.zernike import ZernikeFamily
    from deepblur_live.profile import Optics

__all__ = ["CalibratedZernikeFamily"]

# Largest relative difference of squared distances that counts as rounding.
_EQUAL = 1e-6
# Probability of the wide prior inside its admissible ellipsoid.
_HELD = 0.99


@dataclass(frozen=True)
class CalibratedZernikeFamily:
    """Zernike blurs whose modes are mean + basis · c, as learned from a microscope.

    The first coefficients c are the wide modes, such as defocus, which states on beads
    do not determine: they keep the local family's prior and range. All have the local
    family's unit.

    Parameters
    ----------
    local
        The Zernike family of the microscope's optics.
    learned
        Mean, directions and covariance of its modes.

    Raises
    ------
    ValueError
        When the two have different modes.
    """

    local: ZernikeFamily
    learned: LearnedPrior

    def __post_init__(self) -> None:
        """Check that the prior was learned for these modes."""
        if self.learned.noll != self.local.noll:
            raise ValueError(
                f"the family was calibrated for the modes {self.learned.noll}, not for "
                f"{self.local.noll}"
            )

    @classmethod
    def from_optics(cls, optics: Optics) -> CalibratedZernikeFamily:
        """Raise: a calibrated family cannot be derived from optics alone.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(
            "a calibrated family is learned from measured states of the microscope "
            "(deepblur_live.calibration.learning), not made from its optics"
        )

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, torch.Tensor], local: ZernikeFamily
    ) -> CalibratedZernikeFamily:
        """Return the family from the `to_tensors` of a file, for a rig's optics.

        Raises
        ------
        ValueError
            When a tensor is missing, or has another shape or impossible values, or the
            family was learned for other modes than `local` has.
        """
        return cls(local, LearnedPrior.from_tensors(tensors))

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors for a file; the optics are not among them."""
        return self.learned.to_tensors()

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients P."""
        return int(self.learned.basis.shape[1])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Modes that are coefficients; else ``"component 2 (vertical coma)"``.

        In brackets the mode with the largest part.
        """
        names = []
        for number, column in enumerate(self.learned.basis.T):
            largest = int(np.argmax(np.abs(column)))
            name = self.local.names[largest]
            if not column[largest] == 1:
                name = f"component {number + 1 - len(self.learned.wide)} ({name})"
            names.append(name)
        return tuple(names)

    @property
    def unit(self) -> str:
        """Unit of the coefficients."""
        return self.local.unit

    @property
    def window(self) -> int:
        """Side K of the PSF window in pixels, odd."""
        return self.local.window

    @property
    def cutoff(self) -> float:
        """Coherent cut-off NA·px/λ, cycles per pixel; the OTF is 0 beyond twice it."""
        return self.local.cutoff

    @property
    def extra_blur(self) -> float:
        """Standard deviation of the Gaussian in every PSF, pixels."""
        return self.local.extra_blur

    @cached_property
    def focus_direction(self) -> NDArray[np.float64] | None:
        """(P,) change of c when the focus moves by 1 µm; None if outside the basis.

        None also if the local family has no such direction.
        """
        modes = self.local.focus_direction
        if modes is None:
            return None
        basis = self.learned.basis
        direction: NDArray[np.float64] = basis.T @ modes
        inside = np.allclose(basis @ direction, modes, atol=1e-9)
        return direction if inside else None

    @cached_property
    def prior(self) -> Prior:
        """The learned mean and covariance; the scale is that of the local family.

        What counts as a small error does not depend on how well the blur is known
        beforehand.
        """
        square = np.square(self.learned.basis.T)
        scale = np.sqrt(square @ np.square(self.local.prior.scale))
        middle = self.learned.middle
        admissible = self.learned.admissible(np.array(self.local.half_ranges))
        return Prior(middle, self.learned.covariance, scale, admissible, binding=True)

    @cached_property
    def widened(self) -> CalibratedZernikeFamily:
        """The family with the same coefficients and the prior of the optics."""
        basis, local = self.learned.basis, self.local.prior.covariance
        covariance = basis.T @ local @ basis
        radius = math.sqrt(float(chdtri(self.n_coefficients, 1 - _HELD)))
        learned = replace(
            self.learned,
            covariance=(covariance + covariance.T) / 2,
            radius=radius,
            vertices=None,
            box=False,
        )
        return replace(self, learned=learned)

    @cached_property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """Symmetries of the PSF that the prior does not resolve.

        A learned mean breaks them: of two blurs with the same PSF the prior of a good
        calibration allows one. Such a symmetry of the data is not one of the family. If
        the sign of the wide modes is still ambiguous, a search tries both signs: the
        spectrum hardly distinguishes them (docs/decisions/0186-calibrated-family.md).
        """
        # The third is the product of the first two.
        kept = self.learned.undecided(orbit(self.local)[1:])[:2]
        if not any(symmetry.resolved_by is ResolvedBy.NEVER for symmetry in kept):
            wide = list(self.learned.wide)
            changed = np.zeros(self.n_coefficients, dtype=np.bool_)
            changed[: len(wide)] = self.local.even[wide]
            if changed.any():
                name = "sign of the wide even modes"
                kept.append(Symmetry.sign_change(name, changed, ResolvedBy.SPECTRUM))
        return tuple(kept)

    @cached_property
    def metric(self) -> ChangeMetric:
        """The rms change of the wavefront."""
        local, basis = self.local.metric, self.learned.basis
        return replace(local, matrix=basis.T @ local.matrix @ basis)

    def _local(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> torch.Tensor:
        """Return γ (..., M) of coefficients (..., P), differentiable."""
        if coefficients.shape[-1] != self.n_coefficients:
            raise ValueError(
                f"got {coefficients.shape[-1]} coefficients for the "
                f"{self.n_coefficients} of the calibrated family"
            )
        basis = torch.from_numpy(self.learned.basis).to(coefficients)
        mean = torch.from_numpy(self.learned.mean).to(coefficients)
        return coefficients @ basis.T + mean

    def psf(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> torch.Tensor:
        """Return the PSF (..., K, K) of c (..., P), sum 1."""
        return self.local.psf(self._local(coefficients, position))

    def psf_and_jacobian(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the PSF (..., K, K) and its derivatives (..., P, K, K) in c."""
        psf, slopes = self.local.psf_and_jacobian(self._local(coefficients, position))
        basis = torch.from_numpy(self.learned.basis).to(slopes)
        return psf, torch.einsum("...mij,mp->...pij", slopes, basis)

    def coarse(self) -> CalibratedZernikeFamily:
        """Return the family with fewer samples across the pupil."""
        return replace(self, local=self.local.coarse())

    def kernels(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the PSF (..., K, K) of c (..., P)."""
        return self.local.kernels(self._local(coefficients))

    def expected_kernels(
        self, coefficients: torch.Tensor, covariance: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return `marginal_kernels` of c (..., P) with a covariance (..., P, P)."""
        return marginal_kernels(self.psf, coefficients, covariance)

    def operator_from(
        self,
        kernels: tuple[torch.Tensor, ...],
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> LinearBlur:
        """Return the convolution with the PSF that `kernels` holds."""
        return self.local.operator_from(kernels, shape, frame)

    def operator(
        self,
        coefficients: torch.Tensor,
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> LinearBlur:
        """Return A(γ), the convolution with the PSF of c."""
        return self.operator_from(self.kernels(coefficients), shape, frame)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw (n, P) coefficients from the prior, the wide modes from their range.

        Draws outside the admissible set are replaced by the nearest blur in it.
        """
        drawn = self.learned.draw(n, generator)
        return self._with_wide(drawn, self.local.sample(n, generator))

    def search_points(
        self, n: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw (n, P): half from the prior, half evenly over the admissible ellipsoid.

        The wide modes are drawn as in the local family's search.
        """
        half = n // 2
        draws = [
            self.learned.draw(half, generator),
            self.learned.draw(n - half, generator, even=True),
        ]
        modes = self.local.search_points(n, generator)
        # The local family's points come in groups of one kind.
        order = torch.randperm(n, generator=generator)
        return self._with_wide(torch.cat(draws), modes[order])

    def _with_wide(self, drawn: torch.Tensor, modes: torch.Tensor) -> torch.Tensor:
        """Return admissible (n, P): `drawn` with the wide modes of `modes` (n, M)."""
        wide = list(self.learned.wide)
        drawn[:, : len(wide)] = modes[:, wide].double()
        nearest = self.prior.admissible.project(drawn.numpy())
        return torch.from_numpy(nearest).float()

    def canonical(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the most probable of the (..., P) with the same PSF as c.

        Of equally probable ones the one whose first even mode is positive, as in the
        local family.
        """
        coefficients = np.asarray(coefficients, dtype=np.float64)
        images = [s.apply(coefficients) for s in orbit(self, ResolvedBy.NEVER)]
        if len(images) == 1:
            return coefficients.copy()
        stack = np.stack(images)
        distance = self.learned.distance(stack)
        equal = distance <= (1 + _EQUAL) * distance.min(0)
        leading = self.learned.modes(stack)[..., int(np.argmax(self.local.even))]
        best = np.where(equal, leading, -np.inf).argmax(0)[None, ..., None]
        chosen: NDArray[np.float64] = np.take_along_axis(stack, best, axis=0)[0]
        return chosen

    def quality(self, coefficients: NDArray[np.float64]) -> tuple[Quality, ...]:
        """Return the wavefront error and the Strehl ratio of c (P,)."""
        return self.local.quality(self.learned.modes(coefficients))

    def describe(self) -> str:
        """Return what the family was learned from, and the local family's limits."""
        learned, nm = self.learned, self.local.wavelength_nm
        part = learned.covariance[len(learned.wide) :, len(learned.wide) :]
        wide = ", ".join(self.local.names[mode] for mode in learned.wide) or "no mode"
        shape = "box" if learned.box else "ellipsoid"
        shape = shape if learned.vertices is None else "hull of the states"
        return (
            f"learned from {learned.states} state{'s' * (learned.states != 1)}: mean "
            f"{float(np.linalg.norm(learned.mean)) * nm:.0f} nm rms, prior deviation "
            f"{math.sqrt(float(np.trace(part))) * nm:.0f} nm rms in {len(part)} "
            f"coefficients relative to the mean, admissible: {shape}; {wide} "
            "with the range of the optics; "
            f"{self.local.describe()}"
        )

    def diagnose(self, change: NDArray[np.float64], shape: ChangeShape) -> Cause:
        """Return the likely cause of a change (P,) of the coefficients."""
        return self.local.diagnose(self.learned.basis @ np.asarray(change), shape)
