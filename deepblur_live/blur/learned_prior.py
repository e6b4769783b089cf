"""What was learned of one microscope: mean, directions and covariance of its modes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.blur.convex import Ellipsoid, Hull, Product
from deepblur_live.blur.prior import AdmissibleSet, Box

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from deepblur_live.blur.symmetry import Symmetry

__all__ = ["LearnedPrior"]

_REQUIRED = ("noll", "mean", "basis", "covariance", "radius", "wide", "states")
# Rounding: largest departure from orthonormal columns, from symmetry, and from the span
# of the basis.
_ROUNDING = 1e-6
# Mean log-odds, in nats, from which a prior decides between a blur and its image.
_DECISIVE = math.log(1000)


@dataclass(frozen=True, eq=False)
class LearnedPrior:
    """Modes γ = mean + basis · c with a Gaussian prior of c and a convex set.

    The first coefficients c are the wide modes, such as defocus, whose prior and range
    the measured states do not determine. The others are directions of the remaining
    modes.

    Parameters
    ----------
    noll
        Noll indices of the M modes.
    mean
        (M,) γ of c = 0, waves rms; 0 for the wide modes.
    basis
        (M, P) orthonormal columns; the first belong to the wide modes.
    covariance
        (P, P) prior covariance of c; wide and other coefficients are not correlated.
    radius
        Radius of the admissible ellipsoid of the learned coefficients, in standard
        deviations.
    wide
        Which of the modes are wide, as indices into `noll`.
    states
        Number of measured states that it was learned from.
    vertices
        (S, P - len(wide)) learned coefficients of states, if their convex hull is the
        admissible set instead of the ellipsoid.
    centre
        (P,) mean of the Gaussian prior of c, 0 for the wide modes and where None: the
        middle of the ellipsoid, such as that of one place of the field. Not with a
        hull.
    box
        Whether the admissible set is the box around the ellipsoid instead. Not with a
        hull.

    Raises
    ------
    ValueError
        When shapes or values are impossible; the text says which.
    """

    noll: tuple[int, ...]
    mean: NDArray[np.float64]
    basis: NDArray[np.float64]
    covariance: NDArray[np.float64]
    radius: float
    wide: tuple[int, ...] = ()
    states: int = 0
    vertices: NDArray[np.float64] | None = None
    centre: NDArray[np.float64] | None = None
    box: bool = False

    def __post_init__(self) -> None:
        """Check shapes and values."""
        arrays = {
            "mean": self.mean,
            "basis": self.basis,
            "covariance": self.covariance,
            "radius": np.array(self.radius),
        }
        modes, count = len(self.noll), self.basis.shape[-1]
        n_wide = len(self.wide)
        shapes = [(modes,), (modes, count), (count, count), ()]
        if self.vertices is not None:
            arrays["vertices"] = self.vertices
            shapes.append((len(self.vertices), count - n_wide))
        if self.centre is not None:
            arrays["centre"] = self.centre
            shapes.append((count,))
        for (name, array), shape in zip(arrays.items(), shapes, strict=True):
            if array.shape != shape:
                raise ValueError(f"{name}: shape {array.shape}, must be {shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name}: not finite")
        if not 0 < count <= modes:
            raise ValueError(f"basis: {count} coefficients for {modes} modes")
        if np.abs(self.basis.T @ self.basis - np.eye(count)).max() > _ROUNDING:
            raise ValueError("basis: its columns must be orthonormal")
        wide = list(self.wide)
        if len(set(wide)) != n_wide or not all(0 <= mode < modes for mode in wide):
            raise ValueError(f"wide {wide}: must be different indices below {modes}")
        first = self.basis[:, :n_wide]
        if n_wide > count or not np.array_equal(first, np.eye(modes)[:, wide]):
            raise ValueError("basis: its first columns must be the wide modes")
        if self.mean[wide].any():
            raise ValueError("mean: must be 0 for the wide modes")
        if self.centre is not None and self.centre[:n_wide].any():
            raise ValueError("centre: must be 0 for the wide modes")
        if self.centre is not None and self.vertices is not None:
            raise ValueError("centre: not to be given with a hull, which has its own")
        if self.box and self.vertices is not None:
            raise ValueError("box: cannot be combined with a hull")
        size = float(np.abs(self.covariance).max())
        if np.abs(self.covariance - self.covariance.T).max() > _ROUNDING * size:
            raise ValueError("covariance: must be symmetric")
        if self.covariance[:n_wide, n_wide:].any():
            raise ValueError("covariance: wide and other coefficients are correlated")
        if np.linalg.eigvalsh(self.covariance).min() <= 0:
            raise ValueError("covariance: must be positive definite")
        if not self.radius > 0:
            raise ValueError(f"radius {self.radius:g}: must be positive")
        if self.vertices is not None and len(self.vertices) == 0:
            raise ValueError("vertices: a hull needs at least one state")

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> LearnedPrior:
        """Return the prior from the `to_tensors` of a file.

        Raises
        ------
        ValueError
            When a tensor is missing, or has another shape or impossible values.
        """
        if missing := [name for name in _REQUIRED if name not in tensors]:
            raise ValueError(f"no {' and no '.join(missing)} in the calibrated family")
        arrays = {
            name: tensor.detach().cpu().double().numpy()
            for name, tensor in tensors.items()
        }
        for name in ("radius", "states"):
            if arrays[name].shape:
                raise ValueError(f"{name}: shape {arrays[name].shape}, must be ()")
        return cls(
            tuple(int(index) for index in arrays["noll"].ravel()),
            arrays["mean"],
            arrays["basis"],
            arrays["covariance"],
            float(arrays["radius"]),
            tuple(int(index) for index in arrays["wide"].ravel()),
            int(arrays["states"]),
            arrays.get("vertices"),
            arrays.get("centre"),
            bool(arrays.get("box", np.array(0))),
        )

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors for a file."""
        tensors = {
            "noll": torch.tensor(list(self.noll), dtype=torch.int64),
            "mean": torch.from_numpy(self.mean.copy()),
            "basis": torch.from_numpy(self.basis.copy()),
            "covariance": torch.from_numpy(self.covariance.copy()),
            "radius": torch.tensor(self.radius, dtype=torch.float64),
            "wide": torch.tensor(list(self.wide), dtype=torch.int64),
            "states": torch.tensor(self.states, dtype=torch.int64),
        }
        if self.vertices is not None:
            tensors["vertices"] = torch.from_numpy(self.vertices.copy())
        if self.centre is not None:
            tensors["centre"] = torch.from_numpy(self.centre.copy())
        if self.box:
            tensors["box"] = torch.tensor(1)
        return tensors

    @cached_property
    def _content(self) -> tuple[bytes, ...]:
        tensors = self.to_tensors()
        return tuple(
            name.encode() + tensors[name].numpy().tobytes() for name in sorted(tensors)
        )

    @cached_property
    def _hash(self) -> int:
        return hash(self._content)

    def __eq__(self, other: object) -> bool:
        """Return whether all numbers are the same."""
        return isinstance(other, LearnedPrior) and self._content == other._content

    def __hash__(self) -> int:
        """Return a hash of all numbers."""
        return self._hash

    @cached_property
    def _root(self) -> torch.Tensor:
        return torch.from_numpy(np.linalg.cholesky(self.covariance))

    @cached_property
    def middle(self) -> NDArray[np.float64]:
        """(P,) mean of the prior of c."""
        return np.zeros(len(self.covariance)) if self.centre is None else self.centre

    def modes(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return γ (..., M) of c (..., P)."""
        gamma: NDArray[np.float64] = np.asarray(coefficients) @ self.basis.T + self.mean
        return gamma

    def coefficients(self, modes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return c (..., P) of the blur of the family nearest to γ (..., M)."""
        nearest: NDArray[np.float64] = (np.asarray(modes) - self.mean) @ self.basis
        return nearest

    def admissible(self, half_ranges: NDArray[np.float64]) -> AdmissibleSet:
        """Return a box of the wide modes times an ellipsoid, hull or box of the others.

        `half_ranges` (M,) are those of the modes. The centre is the prior's mean, or
        for a hull the mean of its vertices.
        """
        n_wide, count = len(self.wide), self.basis.shape[1]
        parts: list[tuple[tuple[int, ...], AdmissibleSet]] = []
        if n_wide:
            box = Box(np.zeros(n_wide), half_ranges[list(self.wide)])
            parts.append((tuple(range(n_wide)), box))
        if n_wide < count:
            learned: AdmissibleSet
            covariance = self.covariance[n_wide:, n_wide:]
            if self.box:
                half = self.radius * np.sqrt(np.diag(covariance))
                learned = Box(self.middle[n_wide:], half)
            elif self.vertices is None:
                learned = Ellipsoid(self.middle[n_wide:], covariance, self.radius)
            else:
                learned = Hull(self.vertices)
            parts.append((tuple(range(n_wide, count)), learned))
        return Product(tuple(parts))

    def draw(
        self, n: int, generator: torch.Generator | None = None, *, even: bool = False
    ) -> torch.Tensor:
        """Draw (n, P) from the prior, or evenly from the inside of its ellipsoid."""
        normal = torch.randn(n, len(self.covariance), generator=generator).double()
        if even and len(self.wide) < normal.shape[1]:
            learned = normal[:, len(self.wide) :]
            size = torch.rand(n, 1, generator=generator).double()
            length = self.radius * size ** (1 / learned.shape[1])
            learned *= length / learned.norm(dim=1, keepdim=True).clamp(min=1e-9)
        return normal @ self._root.T + torch.from_numpy(self.middle)

    def distance(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the squared Mahalanobis distance (...) of c (..., P) from the mean."""
        offset = coefficients - self.middle
        solved = np.linalg.solve(self.covariance, offset[..., None])[..., 0]
        square: NDArray[np.float64] = (solved * offset).sum(-1)
        return square

    def undecided(self, symmetries: Iterable[Symmetry]) -> list[Symmetry]:
        """Return the symmetries of γ, as maps of c, that this prior does not resolve.

        The family is closed under them, and the prior prefers a blur to its image by
        less than 1000 to 1 on average.
        """
        mapped = [self._mapped(symmetry) for symmetry in symmetries]
        return [
            symmetry
            for symmetry in mapped
            if symmetry is not None and self.log_odds(symmetry) < _DECISIVE
        ]

    def _mapped(self, symmetry: Symmetry) -> Symmetry | None:
        """Return a symmetry of γ as a map of c; None if images leave the family."""
        image = symmetry.matrix @ self.basis
        shift = symmetry.apply(self.mean) - self.mean
        matrix, offset = self.basis.T @ image, self.basis.T @ shift
        left = np.abs(image - self.basis @ matrix).max()
        left = max(left, np.abs(shift - self.basis @ offset).max())
        if left > _ROUNDING:
            return None
        return replace(symmetry, matrix=matrix, offset=offset)

    def log_odds(self, symmetry: Symmetry) -> float:
        """Return by how much, in nats, the prior prefers c to its image on average.

        The relative entropy of the prior and its image under a symmetry of c, an
        isometry: 0 if the prior has the symmetry.
        """
        precision = np.linalg.inv(self.covariance)
        moved = symmetry.matrix @ self.covariance @ symmetry.matrix.T
        shift = symmetry.apply(self.middle) - self.middle
        distance = shift @ precision @ shift
        return float(np.trace(precision @ moved) - len(precision) + distance) / 2
