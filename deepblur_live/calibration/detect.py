"""Beads of a stack: found near focus, refused with a reason, cut out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepblur_live.identification.beads.detect import Refusal, detect

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["USED", "BeadState", "FoundBead", "best_plane", "cut_out", "find_beads"]

# Planes on either side of best focus that beads are looked for in.
_NEAR = 2


class BeadState(StrEnum):
    """Whether a bead is used, or why not, in words."""

    USED = "used"
    TOGETHER = "used, fitted together with a neighbour"
    EDGE = "too near the edge of the frame"
    CROWDED = "too near another bead"
    SATURATED = "saturated"
    DIM = "too dim"
    OVERLAP = "unlike the other beads: two that overlap, or dirt"
    FAILED = "could not be fitted"


USED = (BeadState.USED, BeadState.TOGETHER)
"""The states of beads that a calibration is made of."""

_STATES = {
    None: BeadState.USED,
    Refusal.EDGE: BeadState.EDGE,
    Refusal.CROWDED: BeadState.CROWDED,
    Refusal.SATURATED: BeadState.SATURATED,
}


@dataclass(frozen=True)
class FoundBead:
    """A bead of a stack.

    Parameters
    ----------
    row, column
        Position of its brightest pixel, pixels.
    response
        Response of the detection filter, in the unit of the stack's light.
    state
        `BeadState.USED` until it is refused.
    """

    row: int
    column: int
    response: float
    state: BeadState = BeadState.USED


def best_plane(stack: NDArray[np.float64], fwhm: float, side: int) -> int:
    """Return the number of the plane of a stack (Z, H, W) that is nearest to focus.

    The median of the planes in which the beads are brightest: one saturated cluster
    may have most of the contrast of the stack, and that out of focus. Where no beads
    are found, the plane with most contrast. `fwhm` and `side` as for `find_beads`.
    """
    found = detect(stack.max(0), fwhm, side, side).candidates
    if not found:
        return int(np.argmax(stack.std((1, 2))))
    planes = []
    for bead in found:
        rows, columns = (
            slice(max(0, place - 1), place + 2) for place in (bead.row, bead.column)
        )
        planes.append(int(stack[:, rows, columns].sum((1, 2)).argmax()))
    return int(np.median(planes))


def find_beads(
    stack: NDArray[np.float64], fwhm: float, side: int
) -> tuple[FoundBead, ...]:
    """Return the beads of a stack, the brightest first.

    Maxima of a difference of Gaussians at the width of a bead in focus. At each pixel
    the brightest of the planes within two of best focus counts: beads of a tilted slide
    are in focus in different planes. The thresholds are those of
    `deepblur_live.identification.beads.detect`.

    Parameters
    ----------
    stack
        (Z, H, W) light.
    fwhm
        Full width at half maximum of a bead in focus, pixels.
    side
        Side of the part of the frame that a bead's fit needs, pixels, odd.
    """
    middle = best_plane(stack, fwhm, side)
    near = stack[max(0, middle - _NEAR) : middle + _NEAR + 1]
    found = detect(near.max(0), fwhm, side, side)
    return tuple(
        FoundBead(bead.row, bead.column, bead.response, _STATES[bead.refusal])
        for bead in found.candidates
    )


def cut_out(stack: NDArray[np.float64], bead: FoundBead, side: int) -> torch.Tensor:
    """Return the part (Z, K, K) of a stack (Z, H, W) around a bead inside it."""
    half = side // 2
    rows = slice(bead.row - half, bead.row + half + 1)
    columns = slice(bead.column - half, bead.column + half + 1)
    return torch.from_numpy(np.ascontiguousarray(stack[:, rows, columns]))
