"""Symmetries of a family: coefficients that data cannot, or can hardly, distinguish.

A power spectrum, an image, or no measurement at all distinguishes γ from its image
under a symmetry. Whatever aligns estimates with one another does it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "ResolvedBy",
    "Symmetry",
    "identity",
    "nearest",
    "nearest_rows",
    "orbit",
    "parity_symmetries",
    "with_positive_even",
]


class ResolvedBy(StrEnum):
    """What distinguishes γ from its image under a symmetry."""

    SPECTRUM = "spectrum"
    """The power spectrum does, but the two PSFs are similar enough to be confused: a
    search tries both."""
    IMAGE = "image"
    """The PSF is rotated by 180°: same power spectrum, different phases."""
    NEVER = "never"
    """The PSF is the same."""


@dataclass(frozen=True, eq=False)
class Symmetry:
    """An affine map γ → matrix · γ + offset of the coefficients.

    Parameters
    ----------
    name
        The term of the field, such as ``"sign ambiguity"``.
    matrix, offset
        (P, P) and (P,).
    resolved_by
        What distinguishes γ from its image.
    explanation
        One sentence for a user who reads the coefficients; may be empty.
    """

    name: str
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    resolved_by: ResolvedBy
    explanation: str = ""

    @classmethod
    def sign_change(
        cls,
        name: str,
        flipped: NDArray[np.bool_],
        resolved_by: ResolvedBy,
        explanation: str = "",
    ) -> Symmetry:
        """Return the symmetry that changes the sign of some coefficients (P,)."""
        signs = np.where(flipped, -1.0, 1.0)
        zero = np.zeros(len(signs))
        return cls(name, np.diag(signs), zero, resolved_by, explanation)

    def apply(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the image (..., P) of coefficients (..., P)."""
        coefficients = np.asarray(coefficients, dtype=np.float64)
        result: NDArray[np.float64] = coefficients @ self.matrix.T + self.offset
        return result

    def apply_rows(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Return the image (S, P) of a tensor of coefficients (S, P)."""
        matrix = torch.as_tensor(self.matrix).to(coefficients)
        return coefficients @ matrix.T + torch.as_tensor(self.offset).to(coefficients)

    def covariance(self, covariance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the covariance (P, P) of the image of an estimate."""
        result: NDArray[np.float64] = self.matrix @ covariance @ self.matrix.T
        return result

    @property
    def flipped(self) -> NDArray[np.bool_] | None:
        """(P,) the coefficients whose sign changes; None if it is no sign change."""
        signs = np.diag(self.matrix)
        plain = np.array_equal(np.diag(signs), self.matrix) and not self.offset.any()
        return signs < 0 if plain and np.all(np.abs(signs) == 1) else None

    def after(self, first: Symmetry) -> Symmetry:
        """Return the symmetry that applies `first`, then this one."""
        return Symmetry(
            f"{first.name}, {self.name}".removeprefix(f"{_IDENTITY}, "),
            self.matrix @ first.matrix,
            self.matrix @ first.offset + self.offset,
            # What distinguishes the two maps together is what distinguishes either.
            min(first.resolved_by, self.resolved_by, key=list(ResolvedBy).index),
        )


class _Symmetric(Protocol):
    """The part of a `BlurFamily` that names its symmetries."""

    def __hash__(self) -> int: ...

    @property
    def n_coefficients(self) -> int: ...

    @property
    def symmetries(self) -> tuple[Symmetry, ...]: ...


_IDENTITY = "identity"


def identity(n: int) -> Symmetry:
    """Return the symmetry that changes nothing, for n coefficients."""
    return Symmetry(_IDENTITY, np.eye(n), np.zeros(n), ResolvedBy.NEVER)


@lru_cache(maxsize=32)
def orbit(family: _Symmetric, *kinds: ResolvedBy) -> tuple[Symmetry, ...]:
    """Return the identity, then each product of a family's symmetries of some kinds.

    Each generator is used at most once in a product. All kinds when none is given.
    """
    chosen = [s for s in family.symmetries if not kinds or s.resolved_by in kinds]
    elements = [identity(family.n_coefficients)]
    for size in range(1, len(chosen) + 1):
        for parts in combinations(chosen, size):
            element = elements[0]
            for part in parts:
                element = part.after(element)
            elements.append(element)
    return tuple(elements)


def parity_symmetries(
    even: NDArray[np.bool_], explanation: str
) -> tuple[Symmetry, ...]:
    """Return the sign ambiguity of even terms and the 180° ambiguity of odd ones.

    Parameters
    ----------
    even
        (P,) True for terms of modes with Z(-ρ) = Z(ρ), False for those of odd modes.
    explanation
        Explanation of the sign ambiguity, for the user.
    """
    found = []
    if even.any():
        sign = Symmetry.sign_change(
            "sign ambiguity", even, ResolvedBy.NEVER, explanation
        )
        found.append(sign)
    if not even.all():
        found.append(Symmetry.sign_change("180° ambiguity", ~even, ResolvedBy.IMAGE))
    return tuple(found)


def with_positive_even(
    coefficients: NDArray[np.float64], even: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return γ (..., P), or γ with the even terms' signs changed: the first ≥ 0."""
    coefficients = np.asarray(coefficients, dtype=np.float64)
    if not even.any():
        return coefficients.copy()
    leading = coefficients[..., int(np.argmax(even))]
    flip = np.where(leading < 0, -1.0, 1.0)[..., None]
    return np.where(even, coefficients * flip, coefficients)


def nearest(
    coefficients: NDArray[np.float64],
    reference: NDArray[np.float64],
    elements: Sequence[Symmetry],
    metric: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the equivalent (P,) of γ that is nearest to a reference (P,).

    `metric` (P, P) measures squared distances; the identity when None. Of equally near
    ones the first element's.
    """
    candidates = np.stack([element.apply(coefficients) for element in elements])
    offset = candidates - reference
    weighted = offset if metric is None else offset @ metric
    best: NDArray[np.float64] = candidates[np.argmin((weighted * offset).sum(1))]
    return best


def nearest_rows(
    coefficients: torch.Tensor, reference: torch.Tensor, elements: Sequence[Symmetry]
) -> torch.Tensor:
    """Return, row by row, the equivalent (S, P) nearest to a reference.

    Either argument may be (P,), one for all rows.
    """
    rows = coefficients + torch.zeros_like(reference)
    rows = rows.reshape(-1, rows.shape[-1])
    candidates = torch.stack([element.apply_rows(rows) for element in elements])
    distance = (candidates - reference).square().sum(-1)
    return candidates[distance.argmin(0), torch.arange(len(rows))]
