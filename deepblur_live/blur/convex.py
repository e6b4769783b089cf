"""Convex sets of admissible coefficients: ellipsoid, convex hull, and their products.

`deepblur_live.blur.Box` is the simplest such set; all follow `AdmissibleSet`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur.prior import AdmissibleSet

__all__ = ["Ellipsoid", "Hull", "Product", "project_on_simplex"]

# Newton's steps for the multiplier of an ellipsoid. They converge monotonically and in
# the end quadratically: 5 to 12 are usual.
_NEWTON_STEPS = 60
# Gradient steps on the weights of a hull, at most.
_HULL_STEPS = 5000
# Steps between two tests of convergence.
_TEST_EVERY = 10
# Lengths below this share of a set's size count as 0: rounding.
_FLAT = 1e-9


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """Coefficients within a Mahalanobis distance of a centre.

    The set {γ : (γ - centre)ᵀ covariance⁻¹ (γ - centre) ≤ radius²}. A covariance
    without full rank makes it flat.

    Parameters
    ----------
    centre
        (P,), in the coefficients' unit.
    covariance
        (P, P), positive semidefinite.
    radius
        Number of standard deviations from the centre to the border.
    """

    centre: NDArray[np.float64]
    covariance: NDArray[np.float64]
    radius: float

    @cached_property
    def _axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The semi-axes' lengths (P,) and directions, the columns of (P, P)."""
        variances, directions = np.linalg.eigh(self.covariance)
        lengths = self.radius * np.sqrt(np.maximum(variances, 0.0))
        lengths[lengths <= _FLAT * lengths.max(initial=0.0)] = 0.0
        return lengths, directions

    def project(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the nearest coefficients (..., P) in the ellipsoid.

        Along the semi-axis a_i the nearest point to y is a_i² y_i / (a_i² + μ), with μ
        the root of ‖a y / (a² + μ)‖ = 1. The inverse of this norm is concave in μ, so
        that Newton's steps from 0 approach the root from below (Moré & Sorensen,
        *Computing a trust region step*, SIAM J. Sci. Stat. Comput. 4(3) 1983).
        """
        lengths, directions = self._axes
        along = (np.asarray(coefficients) - self.centre) @ directions
        rows = along.reshape(-1, along.shape[-1])
        square = lengths**2
        pulled = lengths * rows
        flat = lengths == 0
        multiplier = np.zeros((len(rows), 1))
        for _ in range(_NEWTON_STEPS):
            below = np.where(flat, 1.0, square + multiplier)
            part = np.where(flat, 0.0, pulled / below)
            norm = np.sqrt((part**2).sum(1, keepdims=True))
            slope = (part**2 / below).sum(1, keepdims=True)
            # Rows within the ellipsoid, or on it to rounding, take no step.
            step = np.where(
                norm > 1 + 1e-12,
                norm**2 * (norm - 1) / np.where(slope > 0, slope, 1.0),
                0.0,
            )
            if not step.any():
                break
            multiplier += step
        below = np.where(flat, 1.0, square + multiplier)
        nearest = np.where(flat, 0.0, square * rows / below)
        result: NDArray[np.float64] = nearest @ directions.T + self.centre
        return result.reshape(along.shape)

    def gauge(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the Mahalanobis distance (...) from the centre, over the radius.

        Infinite off the plane of a flat ellipsoid.
        """
        lengths, directions = self._axes
        along = (np.asarray(coefficients) - self.centre) @ directions
        flat = lengths == 0
        outside = np.abs(along) > _FLAT * lengths.max(initial=0.0)
        relative = np.where(
            flat,
            np.where(outside, np.inf, 0.0),
            along / np.where(flat, 1.0, lengths),
        )
        distance: NDArray[np.float64] = np.sqrt((relative**2).sum(-1))
        return distance


def project_on_simplex(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest weights (n, S) to rows: not negative, of sum 1.

    By sorting: Held, Wolfe & Crowder, *Validation of subgradient optimization*,
    Mathematical Programming 6 (1974).
    """
    falling = -np.sort(-rows, axis=1)
    excess = np.cumsum(falling, axis=1) - 1
    count = np.arange(1, rows.shape[1] + 1, dtype=rows.dtype)
    kept = (falling * count > excess).sum(1)
    threshold = excess[np.arange(len(rows)), kept - 1] / kept
    nearest: NDArray[np.float64] = np.maximum(
        rows - threshold[:, None].astype(rows.dtype), 0
    )
    return nearest


@dataclass(frozen=True, eq=False)
class Hull:
    """The convex hull of states of a microscope.

    Parameters
    ----------
    vertices
        (S, P), in the coefficients' unit; S may be smaller than P.
    tolerance
        Largest distance of a projection from the nearest point, relative to the
        distance of the farthest vertex from the centre. Whatever it is, the result
        lies in the hull.
    """

    vertices: NDArray[np.float64]
    tolerance: float = 1e-5

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """(P,) mean of the vertices."""
        mean: NDArray[np.float64] = self.vertices.mean(0)
        return mean

    @cached_property
    def _about_centre(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Vertices about the centre, their scalar products, and the gradient's bound.

        All relative to the distance of the farthest vertex.
        """
        offsets = self.vertices - self.centre
        offsets = offsets / (self.size or 1.0)
        gram = offsets @ offsets.T
        return offsets, gram, float(np.linalg.norm(gram, 2)) or 1.0

    @cached_property
    def size(self) -> float:
        """Distance of the farthest vertex from the centre."""
        offsets = self.vertices - self.centre
        return float(np.sqrt((offsets**2).sum(1).max()))

    def weights(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weights (n, S) of the vertices whose mean is nearest to (n, P).

        min ½‖Vᵀλ - γ‖² over the simplex, by accelerated projected gradient steps that
        restart where the objective would rise (O'Donoghue & Candès, *Adaptive restart
        for accelerated gradient schemes*, Found. Comput. Math. 15 2015). With g the
        gradient, g·λ - min g bounds how far the objective is above its minimum, and so
        the distance from the nearest point: rows stop by that.
        """
        offsets, gram, bound = self._about_centre
        single = np.asarray(coefficients).dtype == np.float32
        kind = np.float32 if single else np.float64
        gram = gram.astype(kind)
        target = ((coefficients - self.centre) / (self.size or 1.0)) @ offsets.T
        target = target.astype(kind)
        gap = max(self.tolerance**2 / 2, 8 * float(np.finfo(kind).eps))
        count = len(offsets)
        found = np.full((len(target), count), 1 / count, kind)
        rows = np.arange(len(target))
        weights = ahead = found.copy()
        momentum = np.ones((len(target), 1), kind)
        for step in range(1, _HULL_STEPS + 1):
            slope = ahead @ gram - target[rows]
            new = project_on_simplex(ahead - slope / bound)
            change = new - weights
            # Adaptive restart (O'Donoghue and Candès): the step points against the
            # gradient.
            turned = ((ahead - new) * change).sum(1, keepdims=True) > 0
            momentum = np.where(turned, 1, momentum).astype(kind)
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            share = np.where(turned, 0, (momentum - 1) / following)
            ahead = new + share.astype(kind) * change
            weights, momentum = new, following.astype(kind)
            if step % _TEST_EVERY == 0 or step == _HULL_STEPS:
                slope = weights @ gram - target[rows]
                left = (slope * weights).sum(1) - slope.min(1) > gap
                found[rows] = weights
                if not left.any():
                    break
                rows, weights = rows[left], weights[left]
                ahead, momentum = ahead[left], momentum[left]
        return found

    def project(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the nearest coefficients (..., P) in the hull, to the tolerance."""
        array = np.asarray(coefficients)
        rows = array.reshape(-1, array.shape[-1])
        nearest: NDArray[np.float64] = self.weights(rows) @ self.vertices
        return nearest.astype(array.dtype).reshape(array.shape)

    def gauge(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (...): the factor by which the hull must be scaled to reach γ.

        About its centre; by a linear programme, min Σλ with Vᵀλ = γ, λ ≥ 0. Infinite
        off the plane of a flat hull.
        """
        array = np.asarray(coefficients, dtype=np.float64)
        rows = (array.reshape(-1, array.shape[-1]) - self.centre) / (self.size or 1.0)
        offsets, _, _ = self._about_centre
        # Equations of a flat hull's own plane, where the programme has full rank.
        _, lengths, directions = np.linalg.svd(offsets, full_matrices=False)
        plane = directions[lengths > _FLAT * lengths.max(initial=1.0)]
        beyond = rows - rows @ plane.T @ plane
        flat = np.sqrt((beyond**2).sum(1)) > 1e-6
        gauges = np.zeros(len(rows))
        cost, matrix = np.ones(len(offsets)), plane @ offsets.T
        # Imported here: every session imports the module, and few have a hull.
        from scipy.optimize import linprog

        for row, point in enumerate(rows):
            if flat[row]:
                gauges[row] = np.inf
            elif len(plane):
                solved = linprog(cost, A_eq=matrix, b_eq=plane @ point, method="highs")
                gauges[row] = solved.fun if solved.success else np.inf
        return gauges.reshape(array.shape[:-1])


@dataclass(frozen=True, eq=False)
class Product:
    """Sets of separate groups of coefficients: each group must lie in its own set.

    Parameters
    ----------
    parts
        Indices of a group's coefficients, and its set. Together they hold each
        coefficient once.
    """

    parts: tuple[tuple[tuple[int, ...], AdmissibleSet], ...]

    def __post_init__(self) -> None:
        """Check that the groups contain each coefficient exactly once.

        Raises
        ------
        ValueError
            When they do.
        """
        indices = sorted(index for group, _ in self.parts for index in group)
        if indices != list(range(len(indices))):
            raise ValueError(f"groups {indices}: each coefficient must be in one group")

    def project(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the nearest coefficients (..., P): each group's nearest."""
        nearest = np.array(coefficients)
        for group, admissible in self.parts:
            index = list(group)
            nearest[..., index] = admissible.project(nearest[..., index])
        return nearest

    def gauge(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the largest of the groups' gauges (...)."""
        array = np.asarray(coefficients)
        gauges = [
            admissible.gauge(array[..., list(group)])
            for group, admissible in self.parts
        ]
        largest: NDArray[np.float64] = np.max(gauges, axis=0)
        return largest
