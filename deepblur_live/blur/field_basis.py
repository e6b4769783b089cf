"""How aberrations vary over the field: the terms of nodal aberration theory.

With H = u + iv the place in the field (u to the right, v down, ±1 at the ends of its
longer side), the Zernike coefficients of a system whose parts are decentred or tilted
are low polynomials in H: defocus d0 + d1·H + d3·|H|², astigmatism
γ6 + iγ5 = a0 + a1·H + a2·H², coma γ8 + iγ7 = c0 + c1·H, trefoil γ10 + iγ9 = t0 + t1·H.

References
----------
K. Thompson, *Description of the third-order optical aberrations of near-circular pupil
optical systems without symmetry*, JOSA A 22(7) 2005 (the nodes of coma and
astigmatism; trefoil is linear by the same argument).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.optics.zernike import MODE_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FieldTerm", "FieldView", "field_terms"]

# Pairs of modes that are the real and the imaginary part of a complex coefficient.
_PAIRS = {6: ("astigmatism", 5), 8: ("coma", 7), 10: ("trefoil", 9)}
_PARTNERS = {second for _, second in _PAIRS.values()}
# Monomials H^a·conj(H)^b up to second order: (a, b) and name. For a single mode the
# coefficient is real, so that those with a ≥ b suffice.
_MONOMIALS = {
    (0, 0): "",
    (1, 0): "linear",
    (0, 1): "linear, conjugate",
    (2, 0): "quadratic",
    (1, 1): "quadratic, rotationally symmetric",
    (0, 2): "quadratic, conjugate",
}
# The monomials that nodal aberration theory allows for each kind of aberration.
_NODAL = {
    "defocus": {(0, 0), (1, 0), (1, 1)},
    "astigmatism": {(0, 0), (1, 0), (2, 0)},
    "coma": {(0, 0), (1, 0)},
    "trefoil": {(0, 0), (1, 0)},
}
# These have a real factor: the axes of the rotationally symmetric system's aberration.
_REAL_FACTOR = {("astigmatism", (2, 0)), ("coma", (1, 0))}
_CURVATURE = "field curvature"


@dataclass(frozen=True)
class FieldTerm:
    """One coefficient of a field: a polynomial of one aberration over the field.

    Parameters
    ----------
    name
        Name shown to the user, such as ``"astigmatism, linear, along x"``.
    kind
        The aberration, such as ``"astigmatism"``.
    order
        Order of the polynomial, 0 to 2.
    nodal
        Whether nodal aberration theory has the term.
    first, second
        Noll indices of the modes with the real and the imaginary part; `second` is None
        for a single mode.
    powers
        Powers of H and of its conjugate.
    imaginary
        Whether the factor is i, not 1.
    """

    name: str
    kind: str
    order: int
    nodal: bool
    first: int
    second: int | None
    powers: tuple[int, int]
    imaginary: bool

    @property
    def mode(self) -> int:
        """Noll index of the mode whose coefficient the term is, if it is constant."""
        return self.second if self.imaginary and self.second is not None else self.first

    def values(
        self, noll: Sequence[int], place: NDArray[np.complex128]
    ) -> NDArray[np.float64]:
        """Return what a coefficient 1 adds to each mode (..., M) at places H (...)."""
        a, b = self.powers
        value = place**a * place.conj() ** b
        result = np.zeros((*place.shape, len(noll)))
        if self.second is None:
            # Real and imaginary part of the monomial are two polynomials of one mode.
            part = value.imag if self.imaginary else value.real
            result[..., noll.index(self.first)] = part
            return result
        value = value * (1j if self.imaginary else 1.0)
        result[..., noll.index(self.first)] = value.real
        result[..., noll.index(self.second)] = value.imag
        return result


@lru_cache(maxsize=32)
def field_terms(noll: tuple[int, ...], remainder: bool = True) -> tuple[FieldTerm, ...]:
    """Return the terms for some modes: those of nodal aberration theory come first.

    With the modes 4 to 10 there are sixteen, with spherical aberration seventeen. Modes
    other than defocus and complete pairs are constant over the field.

    Parameters
    ----------
    noll
        Noll indices of the modes.
    remainder
        Whether all other linear and quadratic polynomials of each mode follow.
    """
    nodal: list[FieldTerm] = []
    others: list[FieldTerm] = []
    for first in _order(noll):
        kind, second = _PAIRS.get(first, (MODE_NAMES.get(first, f"Noll {first}"), None))
        if second is not None and second not in noll:
            kind, second = MODE_NAMES[first], None
        for powers in _MONOMIALS:
            if second is None and powers[0] < powers[1]:
                continue
            for imaginary in (False, True):
                # A real polynomial has no imaginary part of 1 and |H|².
                if imaginary and second is None and powers[0] == powers[1]:
                    continue
                real_factor = (kind, powers) in _REAL_FACTOR
                allowed = powers in _NODAL.get(kind, {(0, 0)})
                allowed = allowed and not (imaginary and real_factor)
                term = FieldTerm(
                    _name(kind, first, second, powers, imaginary, real_factor),
                    kind,
                    sum(powers),
                    allowed,
                    first,
                    second,
                    powers,
                    imaginary,
                )
                (nodal if allowed else others).append(term)
    return tuple(nodal + (others if remainder else []))


def _order(noll: Sequence[int]) -> list[int]:
    """Return the first mode of each kind: the second of a pair is not one."""
    return [
        mode
        for mode in noll
        if not (mode in _PARTNERS and mode + 1 in _PAIRS and mode + 1 in noll)
    ]


def _name(
    kind: str,
    first: int,
    second: int | None,
    powers: tuple[int, int],
    imaginary: bool,
    real_factor: bool,
) -> str:
    if sum(powers) == 0:
        return MODE_NAMES.get(second if imaginary and second else first, kind)
    if second is None and powers == (1, 1):
        return _CURVATURE if kind == "defocus" else f"{kind}, {_MONOMIALS[powers]}"
    name = f"{kind}, {_MONOMIALS[powers]}"
    if real_factor and not imaginary:
        return name
    if second is None and powers == (2, 0):
        return f"{name}, {'oblique' if imaginary else 'vertical'}"
    return f"{name}, along {'y' if imaginary else 'x'}"


@dataclass(frozen=True)
class FieldView:
    """Which part of the sensor a frame shows, in unbinned pixels of the sensor.

    Places in the field are relative to the sensor, so that coefficients of a region of
    interest mean the same as those of the whole.

    Parameters
    ----------
    rows, columns
        Size of the sensor.
    top, left
        First row and column of the frame.
    height, width
        Size of the frame; when 0, it extends to the end of the sensor.

    Raises
    ------
    ValueError
        When the frame reaches beyond the sensor.
    """

    rows: int = 1024
    columns: int = 1024
    top: int = 0
    left: int = 0
    height: int = 0
    width: int = 0

    def __post_init__(self) -> None:
        """Complete the size, and check that the frame is within the sensor."""
        object.__setattr__(self, "height", self.height or self.rows - self.top)
        object.__setattr__(self, "width", self.width or self.columns - self.left)
        inside = (
            0 <= self.top < self.top + self.height <= self.rows
            and 0 <= self.left < self.left + self.width <= self.columns
        )
        if not inside:
            raise ValueError(
                f"a region of {self.height} × {self.width} pixels at row {self.top}, "
                f"column {self.left} reaches beyond the sensor of {self.rows} × "
                f"{self.columns} pixels"
            )

    def places(self, positions: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return H = u + iv (...) at positions (..., 2): row and column, 0 to 1."""
        positions = np.asarray(positions, dtype=np.float64)
        row = self.top + positions[..., 0] * self.height - self.rows / 2
        column = self.left + positions[..., 1] * self.width - self.columns / 2
        half = max(self.rows, self.columns) / 2
        return np.asarray((column + 1j * row) / half, dtype=np.complex128)

    def grid(self, side: int) -> NDArray[np.float64]:
        """Return the positions (side², 2) of the centres of side × side equal parts."""
        centres = (np.arange(side) + 0.5) / side
        rows, columns = np.meshgrid(centres, centres, indexing="ij")
        return np.stack([rows.ravel(), columns.ravel()], -1)
