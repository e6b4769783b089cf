"""The likely cause and remedy of a change of a field.

What varies over the field has causes that one PSF does not show. By nodal aberration
theory a tilted plane is defocus that is linear in the field; a decentred or tilted lens
adds constant coma and linear astigmatism; field curvature, linear coma and quadratic
astigmatism are those of the lenses themselves. The rest, spherical aberration included,
is judged by the constant part, as for one PSF.

References
----------
K. Thompson, *Description of the third-order optical aberrations of near-circular pupil
optical systems without symmetry*, JOSA A 22(7) 2005; for the remedies Faklaris et al.,
as in `deepblur_live.blur.zernike_causes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.diagnosis import Cause, ChangeShape
from deepblur_live.blur.zernike_causes import AFTERWARDS, zernike_cause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from deepblur_live.blur.field_basis import FieldTerm

__all__ = ["field_cause", "field_shares"]

# A group is the cause from the first share of the squared change. Linear astigmatism,
# which distinguishes a decentred lens from a tilted coverslip, counts from the second.
_DOMINANT, _PART = 0.65, 0.15

_TILT, _DECENTRED, _LENSES = "tilt", "decentred", "lenses"
_CONSTANT, _OTHER = "constant", "other"
_GROUPS = {
    ("defocus", 1): _TILT,
    ("defocus", 2): _LENSES,
    ("astigmatism", 1): _DECENTRED,
    ("astigmatism", 2): _LENSES,
    ("coma", 1): _LENSES,
}
_SEAT = (
    "Level the sample holder; check that the specimen lies flat and that the camera is "
    "screwed on straight."
)
_TABLE: Mapping[tuple[str, ChangeShape], Cause] = {
    (_TILT, ChangeShape.STEP): Cause(
        "the specimen or the camera has tilted: the focus differs from one side of the "
        "frame to the other",
        _SEAT,
    ),
    (_TILT, ChangeShape.UNCLEAR): Cause(
        "the specimen or the camera is tilting: the focus differs from one side of the "
        "frame to the other",
        f"{_SEAT} Look for immersion medium that pulls on one side.",
    ),
    (_DECENTRED, ChangeShape.STEP): Cause(
        "the objective, or another lens, is no longer centred: coma, and astigmatism "
        "that grows to one side of the frame",
        "Check that objective, nosepiece and camera adapter are properly seated.",
    ),
    (_DECENTRED, ChangeShape.UNCLEAR): Cause(
        "the objective, or another lens, is moving off its axis: coma, and astigmatism "
        "that grows to one side of the frame",
        "Check that objective, nosepiece and camera adapter are screwed tight.",
    ),
    (_LENSES, ChangeShape.UNCLEAR): Cause(
        "the blur towards the edges of the frame has changed: another lens in the "
        "path, or a correction collar or tube length that was changed",
        "Check which objective, tube lens and camera adapter are in use; set the "
        "correction collar.",
    ),
    (_OTHER, ChangeShape.UNCLEAR): Cause(
        "unclear: the blur has changed differently over the frame, and no single "
        "aberration dominates",
        "Check that specimen, objective and camera are properly seated; a bead slide "
        "is more conclusive.",
    ),
}


def field_shares(
    terms: Sequence[FieldTerm], shares: NDArray[np.float64]
) -> dict[str, float]:
    """Return each group's share of a squared change; the shares sum to 1.

    Parameters
    ----------
    terms
        (P,) of the field.
    shares
        (P,) of the squared change, in any unit.
    """
    groups: dict[str, float] = {}
    total = float(shares.sum()) or 1.0
    for term, share in zip(terms, shares, strict=True):
        group = _GROUPS.get((term.kind, term.order), _OTHER) if term.order else ""
        # Polynomials outside nodal aberration theory have none of these causes.
        group = (group if term.nodal else _OTHER) or _CONSTANT
        groups[group] = groups.get(group, 0.0) + float(share) / total
    return groups


def field_cause(
    terms: Sequence[FieldTerm],
    noll: Sequence[int],
    metric: NDArray[np.float64],
    change: NDArray[np.float64],
    shape: ChangeShape,
) -> Cause:
    """Return the likely cause of a change of a field, and its remedy.

    Parameters
    ----------
    terms
        (P,) of the field.
    noll
        Noll indices of the modes.
    metric
        (P, P) of the size of a change.
    change
        (P,) changes of the terms, in waves.
    shape
        How the change has developed over time.
    """
    shares = change * (metric @ change)
    groups = field_shares(terms, shares)
    coma = sum(
        float(share)
        for term, share in zip(terms, shares, strict=True)
        if term.kind == "coma" and term.order == 0
    ) / (float(shares.sum()) or 1.0)
    astigmatism = groups.get(_DECENTRED, 0.0)
    if groups.get(_TILT, 0.0) >= _DOMINANT:
        group = _TILT
    elif astigmatism >= _PART and astigmatism + coma >= _DOMINANT:
        group = _DECENTRED
    elif groups.get(_LENSES, 0.0) >= _DOMINANT:
        group = _LENSES
    elif groups.get(_CONSTANT, 0.0) >= _DOMINANT:
        return zernike_cause(noll, _constant_part(terms, noll, change), shape)
    else:
        group = _OTHER
    entry = _TABLE.get((group, shape)) or _TABLE[group, ChangeShape.UNCLEAR]
    return Cause(entry.cause, f"{entry.remedy} {AFTERWARDS}")


def _constant_part(
    terms: Sequence[FieldTerm], noll: Sequence[int], change: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the change (M,) of each mode in the middle of the field."""
    middle = np.zeros(1, dtype=np.complex128)
    values = np.stack([term.values(noll, middle)[0] for term in terms], -1)
    constant: NDArray[np.float64] = values @ change
    return constant
