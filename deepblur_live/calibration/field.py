"""Coefficients over the field by a Gaussian process, with their error.

Each mode is a polynomial of the place plus a random function with a Matérn 3/2
covariance, plus the scatter of single beads. The length and the variance of the
function, relative to the scatter, maximise the restricted likelihood: that of the part
of the data that the polynomial cannot explain.

References
----------
Rasmussen & Williams, *Gaussian Processes for Machine Learning* (2006), sections 2.7 and
4.2. Compared with a linear trend: docs/decisions/0138-field-of-a-calibration.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, null_space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["CoefficientField", "FieldValues", "fit_field"]

# Beads from which the polynomial is linear, and quadratic.
_LINEAR, _QUADRATIC = 8, 20
# Candidates: lengths of the covariance over the longer side of the frame, and ratios
# of the function's variance to that of the scatter.
_LENGTHS = np.geomspace(0.08, 2.0, 12)
_RATIOS = np.concatenate([[0.0], np.geomspace(0.1, 1000.0, 21)])
# Least scatter, waves rms: identical beads must not cause a division by 0.
_LEAST_SCATTER = 1e-6
# A place is too far from any bead if its error is this many times that at the beads,
# and more than what the model of the pupil leaves uncertain anyway: 2 nm at 540 nm.
_TOO_FAR, _KNOWN = 2.0, 0.004
# Number of places along rows and along columns that represent the whole frame.
_CELLS = 16


class FieldValues(NamedTuple):
    """Coefficients at places: (..., P) each, waves rms."""

    mean: Array
    sigma: Array


@dataclass(frozen=True, eq=False)
class CoefficientField:
    """Coefficients over the frame, as `fit_field` finds them.

    Parameters
    ----------
    places
        (n, 2) positions of the beads from the frame's centre, over its longer side.
    coefficients
        (n, P) coefficients of the beads, waves rms.
    shape
        (H, W) of the frame.
    length
        Length scale of the covariance, over the longer side.
    ratios
        (P,) variance of each mode's function over that of the scatter; 0 where the
        polynomial is enough.
    scatter
        (P,) standard deviation of single beads about the field, waves rms.
    """

    places: Array
    coefficients: Array
    shape: tuple[int, int]
    length: float
    ratios: Array
    scatter: Array

    def at(self, place: Array) -> FieldValues:
        """Return the coefficients at rows and columns (..., 2), pixels.

        The error is that of the field, not of a single bead.
        """
        place = np.asarray(place, dtype=np.float64)
        unit = _unit(place.reshape(-1, 2), self.shape)
        wanted, covariance = _design(unit, len(self.places)), self._between(unit)
        mean = np.empty((len(unit), len(self.ratios)))
        sigma = np.empty_like(mean)
        for p, ratio in enumerate(self.ratios):
            factor, beta, weights, precision = self._solved[p]
            mean[:, p] = wanted @ beta + ratio * covariance @ weights
            explained = cho_solve(factor, ratio * covariance.T)
            open_trend = wanted - explained.T @ self._trend
            variance = ratio - ratio * np.einsum("mn,nm->m", covariance, explained)
            variance += np.einsum("mq,qr,mr->m", open_trend, precision, open_trend)
            sigma[:, p] = self.scatter[p] * np.sqrt(variance.clip(0))
        shape = (*place.shape[:-1], len(self.ratios))
        return FieldValues(mean.reshape(shape), sigma.reshape(shape))

    def far(self, place: Array) -> NDArray[np.bool_]:
        """Return whether places (..., 2), pixels, are too far from any bead.

        There the error, over all modes, is more than twice that at a typical bead, and
        more than 0.004 waves rms.
        """
        sigma = np.linalg.norm(self.at(place).sigma, axis=-1)
        return np.asarray(sigma > max(_TOO_FAR * self._at_beads, _KNOWN))

    def even_places(self) -> Array:
        """Return (256, 2) rows and columns, evenly over the frame, pixels."""
        cells = (np.arange(_CELLS) + 0.5) / _CELLS
        grid = np.stack(np.meshgrid(cells, cells, indexing="ij"), -1)
        places: Array = grid.reshape(-1, 2) * self.shape
        return places

    @cached_property
    def _at_beads(self) -> float:
        own = self.places * max(self.shape) + np.array(self.shape) / 2
        return float(np.median(np.linalg.norm(self.at(own).sigma, axis=-1)))

    @cached_property
    def _trend(self) -> Array:
        return _design(self.places, len(self.places))

    def _between(self, unit: Array) -> Array:
        return _matern(unit, self.places, self.length)

    @cached_property
    def _solved(self) -> list[tuple[tuple[Array, bool], Array, Array, Array]]:
        """Per mode: factor of its covariance, polynomial, weights, error of the first.

        All relative to the scatter.
        """
        solved = []
        own = self._between(self.places)
        for p, ratio in enumerate(self.ratios):
            factor = cho_factor(ratio * own + np.eye(len(own)))
            precision = np.linalg.inv(self._trend.T @ cho_solve(factor, self._trend))
            y = self.coefficients[:, p]
            beta = precision @ (self._trend.T @ cho_solve(factor, y))
            weights = cho_solve(factor, y - self._trend @ beta)
            solved.append((factor, beta, weights, precision))
        return solved


def fit_field(
    coefficients: Array, places: Array, shape: tuple[int, int]
) -> CoefficientField:
    """Return the field of beads' coefficients (n, P) at rows and columns (n, 2).

    With one length for all modes, and a variance for each. With fewer than 20 beads the
    polynomial is linear, with fewer than 8 constant; one or two beads have their mean,
    and no error.
    """
    coefficients = np.asarray(coefficients, dtype=np.float64)
    unit = _unit(np.asarray(places, dtype=np.float64), shape)
    count, modes = coefficients.shape
    trend = _design(unit, count)
    free = count - trend.shape[1]
    if free < 2:
        none = np.zeros(modes)
        return CoefficientField(unit, coefficients, shape, 1.0, none, none)
    # What is orthogonal to the polynomials does not depend on their coefficients.
    basis = null_space(trend.T)
    left = basis.T @ coefficients
    best = (-math.inf, 1.0, np.zeros(modes), np.zeros(modes))
    for length in _LENGTHS:
        own = basis.T @ _matern(unit, unit, length) @ basis
        values, axes = np.linalg.eigh(own)
        square = np.square(axes.T @ left)
        spread = _RATIOS[:, None] * values.clip(0) + 1
        variance = (1 / spread) @ square / free
        variance = np.maximum(variance, _LEAST_SCATTER**2)
        likelihood = -free * np.log(variance) - np.log(spread).sum(1)[:, None]
        chosen = likelihood.argmax(0)
        own_modes = np.arange(modes)
        total = float(likelihood[chosen, own_modes].sum())
        if total > best[0]:
            scatter = np.sqrt(variance[chosen, own_modes])
            best = (total, float(length), _RATIOS[chosen], scatter)
    return CoefficientField(unit, coefficients, shape, *best[1:])


def _unit(places: Array, shape: tuple[int, int]) -> Array:
    unit: Array = (places - np.array(shape) / 2) / max(shape)
    return unit


def _design(unit: Array, beads: int) -> Array:
    """Return polynomials (m, q) of places (m, 2), as many as `beads` support."""
    row, column = unit.T
    parts = [np.ones(len(unit))]
    if beads >= _LINEAR:
        parts += [row, column]
    if beads >= _QUADRATIC:
        parts += [row**2, row * column, column**2]
    return np.stack(parts, 1)


def _matern(one: Array, other: Array, length: float) -> Array:
    """Return the Matérn 3/2 correlation (m, n) of places (m, 2) and (n, 2)."""
    apart = np.linalg.norm(one[:, None] - other[None], axis=2)
    scaled = math.sqrt(3) * apart / length
    correlation: Array = (1 + scaled) * np.exp(-scaled)
    return correlation
