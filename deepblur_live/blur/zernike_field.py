"""The family of blurs that vary over the field: Zernike modes that are polynomials."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.family import ChangeMetric, Quality
from deepblur_live.blur.field_basis import FieldView, field_terms
from deepblur_live.blur.field_causes import field_cause
from deepblur_live.blur.field_prior import field_prior
from deepblur_live.blur.marginal import marginal_change
from deepblur_live.blur.prior import Box
from deepblur_live.blur.symmetry import Symmetry, parity_symmetries, with_positive_even
from deepblur_live.blur.tiled import TiledBlur, as_grid, grid_positions, on_grid
from deepblur_live.blur.zernike import ZernikeFamily

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.diagnosis import Cause, ChangeShape
    from deepblur_live.blur.field_basis import FieldTerm
    from deepblur_live.blur.prior import Prior
    from deepblur_live.profile import Optics

__all__ = ["ZernikeField"]

# Parts of the frame, along each side, over which a field is averaged.
_PARTS = 9
_CENTRE = (0.5, 0.5)
# Positions, along each side, at which the effect of uncertain coefficients is computed.
_UNCERTAIN = 4


@dataclass(frozen=True)
class ZernikeField:
    """PSFs whose Zernike coefficients γ are low polynomials over the field.

    At a position x of the frame γ(x) = Φ(x)·c: the family's coefficients c are the
    factors of `terms`, in waves rms at the end of the longer side of the sensor. A
    constant field is a `ZernikeFamily`.

    Parameters
    ----------
    local
        The PSFs at one place.
    view
        Which part of the sensor the frame shows.
    remainder
        Prior standard deviation, in waves rms, of the linear and quadratic terms that
        nodal aberration theory does not have; 0 to leave them out.
    """

    local: ZernikeFamily = field(default_factory=ZernikeFamily)
    view: FieldView = field(default_factory=FieldView)
    remainder: float = 0.02

    @classmethod
    def from_optics(cls, optics: Optics) -> ZernikeField:
        """Return the family for a profile's optics, for a square sensor."""
        return cls(ZernikeFamily.from_optics(optics))

    @cached_property
    def terms(self) -> tuple[FieldTerm, ...]:
        """One term per coefficient, those of nodal aberration theory first."""
        return field_terms(self.local.noll, self.remainder > 0)

    @property
    def n_coefficients(self) -> int:
        """Number of terms P."""
        return len(self.terms)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each term."""
        return tuple(term.name for term in self.terms)

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
        """Coherent cut-off, cycles per pixel."""
        return self.local.cutoff

    @property
    def extra_blur(self) -> float:
        """Standard deviation of the Gaussian in every PSF, pixels."""
        return self.local.extra_blur

    def design(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Φ (..., M, P) at positions (..., 2) of the frame: γ(x) = Φ(x)·c."""
        place = self.view.places(positions)
        columns = [term.values(self.local.noll, place) for term in self.terms]
        return np.stack(columns, -1)

    def at(
        self, coefficients: torch.Tensor, positions: NDArray[np.float64]
    ) -> torch.Tensor:
        """Return γ (..., N, M) of c (..., P) at positions (N, 2) of the frame."""
        design = torch.from_numpy(self.design(positions)).to(coefficients)
        return torch.einsum("nmp,...p->...nm", design, coefficients)

    def constant(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return c (..., P) of the constant field with γ (..., M) everywhere."""
        coefficients = np.asarray(coefficients, dtype=np.float64)
        result = np.zeros((*coefficients.shape[:-1], self.n_coefficients))
        for p, term in enumerate(self.terms):
            if term.order == 0:
                result[..., p] = coefficients[..., self.local.noll.index(term.mode)]
        return result

    @cached_property
    def even(self) -> NDArray[np.bool_]:
        """(P,) True for terms of even modes, whose common sign is ambiguous."""
        even = dict(zip(self.local.noll, self.local.even, strict=True))
        return np.array([even[term.first] for term in self.terms])

    @cached_property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """One sign ambiguity and one 180° ambiguity for the whole field."""
        return parity_symmetries(
            self.even,
            "The common sign of all terms of even modes (defocus, astigmatism, "
            "spherical) is ambiguous: both signs give the same PSFs.",
        )

    @cached_property
    def prior(self) -> Prior:
        """See `field_prior`."""
        return field_prior(self.local, self.terms, self.remainder)

    @cached_property
    def metric(self) -> ChangeMetric:
        """The rms change of the wavefront, as the rms over the frame."""
        design = self.design(self.view.grid(_PARTS))
        matrix = np.einsum("nmp,nmq->pq", design, design) / len(design)
        nm = self.local.wavelength_nm
        return ChangeMetric(matrix, "waves rms", "nm", nm, 0)

    def relative_error(self, covariance: NDArray[np.float64]) -> float:
        """Return the rms error of γ over its prior scale, of all modes and places."""
        design = self.design(self.view.grid(_PARTS))
        variance = np.einsum("nmp,pq,nmq->nm", design, covariance, design)
        relative = variance / np.square(self.local.prior.scale)
        return float(np.sqrt(relative.mean()))

    @cached_property
    def focus_direction(self) -> NDArray[np.float64] | None:
        """(P,) change of c when the focus moves by 1 µm; None without defocus."""
        direction = self.local.focus_direction
        return None if direction is None else self.constant(direction)

    def psf(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> torch.Tensor:
        """Return the PSF (..., K, K) of c (..., P) at a position of the frame."""
        return self.local.psf(self._local(coefficients, position))

    def psf_and_jacobian(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the PSF (..., K, K) and its derivatives (..., P, K, K) in c."""
        psf, change = self.local.psf_and_jacobian(self._local(coefficients, position))
        design = self.design(np.array(position or _CENTRE))
        change = torch.einsum(
            "...mij,mp->...pij", change, torch.from_numpy(design).to(change)
        )
        return psf, change

    def _local(
        self, coefficients: torch.Tensor, position: tuple[float, float] | None
    ) -> torch.Tensor:
        if coefficients.shape[-1] != self.n_coefficients:
            raise ValueError(
                f"got {coefficients.shape[-1]} coefficients for the "
                f"{self.n_coefficients} terms of the field"
            )
        return self.at(coefficients, np.array([position or _CENTRE]))[..., 0, :]

    def kernels(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the PSFs (..., N, N, K, K) of c (..., P) at `grid_positions`."""
        local = self.at(coefficients, grid_positions())
        return (as_grid(self.local.psf(local)),)

    def expected_kernels(
        self, coefficients: torch.Tensor, covariance: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the grid's expected PSFs, and the autocorrelations of deviations.

        What an uncertain c (..., P) with a covariance (..., P, P) adds is computed at a
        few positions, with fewer samples across the pupil, and interpolated
        (docs/decisions/0168-uncertain-field.md).
        """
        few = grid_positions(_UNCERTAIN)
        design = torch.from_numpy(self.design(few)).to(covariance)
        local = design @ covariance[..., None, :, :] @ design.mT
        change, spread = marginal_change(
            self.local.coarse().psf, self.at(coefficients, few), local
        )
        (psfs,) = self.kernels(coefficients)
        return psfs + on_grid(change), on_grid(spread)

    def operator_from(
        self,
        kernels: tuple[torch.Tensor, ...],
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> TiledBlur:
        """Return the blur with the grid of PSFs that `kernels` holds."""
        psfs, *spread = kernels
        return TiledBlur(psfs, shape, frame, *spread)

    def operator(
        self,
        coefficients: torch.Tensor,
        shape: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> TiledBlur:
        """Return A(c), see `TiledBlur`."""
        return self.operator_from(self.kernels(coefficients), shape, frame)

    def coarse(self) -> ZernikeField:
        """Return the family with fewer samples across the pupil."""
        return replace(self, local=self.local.coarse())

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw (n, P) fields: uniform in the ranges, and shrunk to them everywhere.

        Terms that nodal aberration theory does not have are normal, as in the prior.
        """
        box = self.prior.admissible
        assert isinstance(box, Box)
        half = torch.from_numpy(box.half_width).float()
        drawn = (2 * torch.rand(n, len(half), generator=generator) - 1) * half
        normal = torch.randn(n, len(half), generator=generator)
        sigma = torch.from_numpy(self.prior.covariance).diagonal().sqrt().float()
        nodal = torch.tensor([term.nodal for term in self.terms])
        drawn = torch.where(nodal, drawn, normal * sigma)
        within = self.at(drawn, self.view.grid(_PARTS)).abs()
        excess = within / torch.tensor(self.local.half_ranges)
        drawn /= excess.amax((-2, -1)).clamp(min=1)[:, None]
        return drawn

    def search_points(
        self, n: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw (n, P) constant fields, by `ZernikeFamily.search_points`."""
        local = self.local.search_points(n, generator)
        return torch.from_numpy(self.constant(local.double().numpy())).to(local)

    def canonical(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return c, or c with the even terms' signs changed: first even term ≥ 0."""
        return with_positive_even(coefficients, self.even)

    def quality(self, coefficients: NDArray[np.float64]) -> tuple[Quality, ...]:
        """Return wavefront error and Strehl ratio over the frame of c (P,)."""
        grid = self.view.grid(_PARTS)
        local = self.at(torch.from_numpy(np.asarray(coefficients)), grid).numpy()
        rms = float(np.sqrt(np.mean(np.square(local).sum(-1))))
        mean = self.local.quality(local[0])[1]
        strehl = self.local.strehl(local)
        nm = self.local.wavelength_nm
        return (
            Quality("wavefront rms", rms, "waves", "nm", nm),
            replace(mean, value=float(strehl.mean())),
            replace(mean, name="worst Strehl", value=float(strehl.min())),
        )

    def diagnose(self, change: NDArray[np.float64], shape: ChangeShape) -> Cause:
        """Return the likely cause of a change (P,), and its remedy."""
        return field_cause(
            self.terms, self.local.noll, self.metric.matrix, change, shape
        )

    def describe(self) -> str:
        """Return the number of terms, and the local family's description."""
        return (
            f"{self.n_coefficients} coefficients of a field over "
            f"{self.view.columns} × {self.view.rows} pixels; {self.local.describe()}"
        )
