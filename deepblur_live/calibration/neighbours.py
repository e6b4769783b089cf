"""A bead with neighbours near: fitted together with them, with one pupil for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from deepblur_live.calibration.fit import ToFit, start_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from deepblur_live.calibration.detect import FoundBead
    from deepblur_live.calibration.model import StackModel

__all__ = ["Crop", "Neighbour", "neighbours_of", "to_fit"]

# Most neighbours that are fitted with a bead: more would take too long.
_MOST = 2
# How much farther than the crop's border neighbours are fitted, and the least distance
# at which two beads are resolved, in widths of a bead; least share of the bead's
# response (docs/decisions/0215-neighbours-fitted-together.md).
_BEYOND, _APART, _DIM = 1.5, 1.5, 0.03


class Neighbour(NamedTuple):
    """Place of a neighbour from the middle of a crop, pixels, and relative response."""

    row: float
    column: float
    share: float


class Crop(NamedTuple):
    """What a bead's fit uses.

    Parameters
    ----------
    light
        (Z, K, K), the bead near the middle.
    neighbours
        Other beads whose light is in it.
    """

    light: torch.Tensor
    neighbours: tuple[Neighbour, ...] = ()


def neighbours_of(
    bead: FoundBead, found: Sequence[FoundBead], width: float, side: int
) -> tuple[Neighbour, ...] | None:
    """Return the beads of a slide whose light reaches a bead's crop.

    None if there are too many, or if one is too close for its light to be separated.

    Parameters
    ----------
    bead
        A bead of the slide.
    found
        All beads of the slide.
    width
        Full width at half maximum of a bead in focus, pixels.
    side
        Side of the crop, pixels.
    """
    reach, near = side // 2 + _BEYOND * width, []
    for other in found:
        row, column = other.row - bead.row, other.column - bead.column
        share = other.response / bead.response
        if other is not bead and max(abs(row), abs(column)) <= reach and share > _DIM:
            if row**2 + column**2 < (_APART * width) ** 2:
                return None
            near.append(Neighbour(float(row), float(column), share))
    return tuple(near) if len(near) <= _MOST else None


def to_fit(
    model: StackModel,
    crop: Crop,
    coefficients: torch.Tensor | None = None,
    blur: float = 0.25,
) -> ToFit:
    """Return the fit of the bead in the middle of a crop, together with its neighbours.

    All have the same γ and Gaussian; place, focus and brightness are each one's own.
    The errors of the bead's parameters contain what is not known of its neighbours.

    Parameters
    ----------
    model
        Images of beads.
    crop
        The light, and where neighbours are.
    coefficients, blur
        Where the fit begins, see `start_of`.
    """
    start = start_of(model, crop.light, coefficients, blur)
    total = 1 + sum(one.share for one in crop.neighbours)
    start = start._replace(brightness=start.brightness / total)
    neighbours = tuple(
        start._replace(
            row=one.row, column=one.column, brightness=one.share * start.brightness
        )
        for one in crop.neighbours
    )
    return ToFit(crop.light, start, neighbours)
