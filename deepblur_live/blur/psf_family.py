"""A family in PSF space: a mean PSF and eigen-PSFs, without a model of the pupil.

For instruments that no pupil describes. `deepblur_live.calibration.learn_psf_family`
makes it from measured PSFs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.convex import Ellipsoid
from deepblur_live.blur.convolution import Convolution
from deepblur_live.blur.diagnosis import Cause
from deepblur_live.blur.family import ChangeMetric, Quality
from deepblur_live.blur.marginal import marginal_kernels
from deepblur_live.blur.prior import Prior

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.diagnosis import ChangeShape
    from deepblur_live.blur.symmetry import Symmetry
    from deepblur_live.profile import Optics

__all__ = ["PsfFamily"]

# Scale of the coefficients, over 1/√P: an error of a fifth of it in all of them is a
# PSF SNR of 10 dB, as for the Zernike family.
_SCALE = 1.5
# What counts as 0 in sums of a PSF.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class PsfFamily:
    """PSFs h = (mean + Σ c_p e_p)₊ / its sum, the same in the whole frame.

    Negative values are cut off, so that each h is a PSF. The coefficients are relative:
    a change of c by Δ changes the PSF by ‖Δ‖ of the mean's norm.

    Parameters
    ----------
    mean
        (K, K) mean PSF, K odd, sum 1.
    eigen
        (P, K, K) eigen-PSFs: orthogonal, of the mean's norm, each of sum 0.
    covariance
        (P, P) prior covariance of c.
    radius
        Radius of the admissible ellipsoid, in standard deviations.
    optics_cutoff
        Coherent cut-off NA·px/λ, cycles per pixel.
    states
        Number of PSFs that it was learned from.

    Raises
    ------
    ValueError
        When shapes or values are impossible; the text says which.
    """

    mean: NDArray[np.float64]
    eigen: NDArray[np.float64]
    covariance: NDArray[np.float64]
    radius: float
    optics_cutoff: float
    states: int = 0

    def __post_init__(self) -> None:
        """Check shapes and values."""
        side, count = len(self.mean), len(self.eigen)
        if self.mean.shape != (side, side) or side % 2 == 0:
            raise ValueError(f"mean: shape {self.mean.shape}, must be (K, K), K odd")
        shapes = self.eigen.shape[1:], self.covariance.shape
        if not count or shapes != ((side, side), (count, count)):
            raise ValueError(
                f"eigen {self.eigen.shape}, covariance {self.covariance.shape}: must "
                f"be (P, {side}, {side}) and (P, P)"
            )
        arrays = self.mean, self.eigen, self.covariance
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError("the PSFs or their covariance are not finite")
        sums = abs(self.mean.sum() - 1), np.abs(self.eigen.sum((1, 2))).max()
        if max(sums) > _ROUNDING:
            raise ValueError("mean must have the sum 1, eigen-PSFs the sum 0")
        if np.linalg.eigvalsh(self.covariance).min() <= 0:
            raise ValueError("covariance: must be positive definite")
        if not (self.radius > 0 and self.optics_cutoff > 0):
            raise ValueError("radius and cut-off must be positive")

    @classmethod
    def from_optics(cls, optics: Optics) -> PsfFamily:
        """Raise: a family in PSF space cannot be derived from optics alone.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(
            "a family in PSF space is learned from measured PSFs "
            "(deepblur_live.calibration.psf_learning), not made from optics"
        )

    @cached_property
    def _key(self) -> tuple[object, ...]:
        arrays = self.mean, self.eigen, self.covariance
        content = tuple(array.tobytes() for array in arrays)
        return content, self.radius, self.optics_cutoff, self.states

    def __eq__(self, other: object) -> bool:
        """Return whether two families have the same blurs and prior."""
        return isinstance(other, PsfFamily) and self._key == other._key

    @cached_property
    def _hash(self) -> int:
        return hash(self._key)

    def __hash__(self) -> int:
        """Return a hash of all parameters."""
        return self._hash

    @property
    def n_coefficients(self) -> int:
        """Number of eigen-PSFs P."""
        return len(self.eigen)

    @property
    def names(self) -> tuple[str, ...]:
        """``"eigen-PSF 1"`` and so on, the strongest first."""
        return tuple(f"eigen-PSF {p}" for p in range(1, self.n_coefficients + 1))

    @property
    def unit(self) -> str:
        """Unit of the coefficients."""
        return "of the PSF"

    @property
    def window(self) -> int:
        """Side K of the PSFs in pixels, odd."""
        return len(self.mean)

    @property
    def cutoff(self) -> float:
        """Coherent cut-off, cycles per pixel."""
        return self.optics_cutoff

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """None: a PSF has one set of coefficients, and its rotation mostly none."""
        return ()

    @cached_property
    def prior(self) -> Prior:
        """Zero mean, the learned covariance, and its ellipsoid."""
        zero = np.zeros(self.n_coefficients)
        scale = np.full(self.n_coefficients, _SCALE / math.sqrt(self.n_coefficients))
        admissible = Ellipsoid(zero, self.covariance, self.radius)
        return Prior(zero, self.covariance, scale, admissible, binding=True)

    @cached_property
    def metric(self) -> ChangeMetric:
        """The norm of the change of the PSF, relative to the mean's."""
        identity = np.eye(self.n_coefficients)
        return ChangeMetric(identity, self.unit, "% of the PSF", 100, 1)

    @cached_property
    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.mean), torch.from_numpy(self.eigen)

    def psf(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> torch.Tensor:
        """Return the PSF (..., K, K) of c (..., P), not negative, of sum 1."""
        mean, eigen = (part.to(coefficients) for part in self._tensors)
        light = (mean + torch.einsum("...p,pij->...ij", coefficients, eigen)).relu()
        return light / light.sum((-2, -1), keepdim=True)

    def psf_and_jacobian(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the PSF (..., K, K) and its derivatives (..., P, K, K) in c."""
        mean, eigen = (part.to(coefficients) for part in self._tensors)
        light = (mean + torch.einsum("...p,pij->...ij", coefficients, eigen)).relu()
        total = light.sum((-2, -1), keepdim=True)
        psf = light / total
        change = eigen * (light > 0)[..., None, :, :]
        share = change.sum((-2, -1), keepdim=True)
        return psf, (change - psf[..., None, :, :] * share) / total[..., None, :, :]

    def coarse(self) -> PsfFamily:
        """Return the family itself: its PSFs cost one product."""
        return self

    def kernels(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the PSF (..., K, K) of c (..., P)."""
        return (self.psf(coefficients),)

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
    ) -> Convolution:
        """Return the convolution with the PSF that `kernels` holds."""
        psf, *spread = kernels
        return Convolution(psf, shape, frame, *spread)

    def operator(
        self,
        coefficients: torch.Tensor,
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> Convolution:
        """Return A(c), the convolution with the PSF of c."""
        return self.operator_from(self.kernels(coefficients), shape, frame)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw (n, P) coefficients from the prior, within the admissible set."""
        normal = torch.randn(n, self.n_coefficients, generator=generator).double()
        root = torch.from_numpy(np.linalg.cholesky(self.covariance))
        drawn = self.prior.admissible.project((normal @ root.T).numpy())
        return torch.from_numpy(drawn).float()

    def search_points(
        self, n: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw (n, P) coefficients where a search begins: the prior's."""
        return self.sample(n, generator)

    def canonical(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the coefficients: none have the same PSF."""
        return np.array(coefficients, dtype=np.float64)

    def quality(self, coefficients: NDArray[np.float64]) -> tuple[Quality, ...]:
        """Return the peak of the PSF over the mean PSF's."""
        psf = self.psf(torch.as_tensor(np.asarray(coefficients), dtype=torch.float64))
        return (Quality("peak", float(psf.max()) / float(self.mean.max())),)

    def diagnose(self, change: NDArray[np.float64], shape: ChangeShape) -> Cause:
        """Return that the cause is unclear: PSFs alone do not name one."""
        return Cause(
            "unclear: the shape of the PSF has changed",
            "Check focus, cover glass and temperature; take a new bead slide.",
        )

    def describe(self) -> str:
        """Return what the family was learned from."""
        deviation = math.sqrt(float(np.trace(self.covariance)))
        return (
            f"learned from {self.states} PSFs of {self.window} × {self.window} pixels: "
            f"{self.n_coefficients} eigen-PSFs, prior deviation {deviation:.0%} of the "
            "mean PSF; the same in the whole frame; defocus is not separated"
        )
