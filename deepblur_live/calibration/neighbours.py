"""A bead with neighbours near: fitted together with them, with one pupil for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from deepblur_live.calibration.fit import finished, fit_bead, start_of
from deepblur_live.calibration.least_squares import LeastSquares, border
from deepblur_live.calibration.model import BeadParameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepblur_live.calibration.detect import FoundBead
    from deepblur_live.calibration.fit import StackFit
    from deepblur_live.calibration.least_squares import PixelNoise
    from deepblur_live.calibration.model import StackModel

__all__ = ["Crop", "Neighbour", "fit_crop", "neighbours_of"]

# Neighbours that are fitted with a bead, at most: a crowd is not worth its time.
_MOST = 2
# How much farther than the crop's border neighbours are fitted, and the least distance
# at which two beads are resolved, in widths of a bead; least share of the bead's
# response (docs/decisions/0215-neighbours-fitted-together.md).
_BEYOND, _APART, _DIM = 1.5, 1.5, 0.03
_STEPS = 25


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

    None if they are too many, or one is too near to tell whose light is whose.

    Parameters
    ----------
    bead
        Of the slide.
    found
        All beads of the slide.
    width
        Of a bead in focus, pixels.
    side
        Of the crop, pixels.
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


def fit_crop(
    model: StackModel,
    crop: Crop,
    noise: PixelNoise,
    coefficients: torch.Tensor | None = None,
    blur: float = 0.25,
) -> StackFit:
    """Fit the bead in the middle of a crop, and its neighbours beside it.

    All have the same γ and Gaussian; place, focus and brightness are each one's own.
    The errors of the bead's parameters contain what is not known of its neighbours.

    Parameters
    ----------
    model, noise
        As for `fit_bead`.
    crop
        The light, and where neighbours are.
    coefficients, blur
        Where the fit begins, see `start_of`.
    """
    start = start_of(model, crop.light, coefficients, blur)
    if not crop.neighbours:
        return fit_bead(model, crop.light, noise, start)
    return _fit_together(model, crop, noise, start)


def _fit_together(
    model: StackModel, crop: Crop, noise: PixelNoise, start: BeadParameters
) -> StackFit:
    # The unknowns of a bead, then row, column, z and brightness of each neighbour.
    first = start.vector()
    p, count = len(start.coefficients), len(crop.neighbours)
    light = first[p + 3] / (1 + sum(one.share for one in crop.neighbours))
    first[p + 3] = light
    others = [
        torch.tensor([one.row, one.column, start.z_um, one.share * light])
        for one in crop.neighbours
    ]
    theta = torch.cat([first, *(other.double() for other in others)])

    def beads(theta: torch.Tensor) -> list[BeadParameters]:
        own = BeadParameters.of(theta[: p + 5])
        gamma, blur = own.coefficients, own.blur
        rest = theta[p + 5 :].reshape(count, 4).tolist()
        return [own, *(BeadParameters(gamma, r, c, z, n, blur) for r, c, z, n in rest)]

    def light_of(theta: torch.Tensor) -> torch.Tensor:
        images = [model.images(bead).double() for bead in beads(theta)]
        return torch.stack(images).sum(0)

    def light_and_slopes(theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own, *rest = (model.images_and_slopes(bead) for bead in beads(theta))
        image, slopes = own.image.double(), [own.slopes.double()]
        for one in rest:
            by = one.slopes.double()
            image = image + one.image.double()
            slopes[0][:p] += by[:p]
            slopes[0][-1] += by[-1]
            slopes.append(by[p : p + 4])
        return image, torch.cat(slopes)

    def bounded(theta: torch.Tensor) -> torch.Tensor:
        theta[p + 3] = theta[p + 3].clamp(min=1e-6)
        theta[p + 4] = theta[p + 4].clamp(0.0, model.largest_blur)
        theta[p + 8 :: 4] = theta[p + 8 :: 4].clamp(min=0.0)
        return theta

    free = torch.ones(len(theta), dtype=torch.bool)
    if len(model.z_um) == 1:
        free[p + 2] = False
        free[p + 7 :: 4] = False
    data = crop.light.double()
    least = LeastSquares(light_of, light_and_slopes, bounded, free)
    solved = least.solve(data, noise, theta, border(data), _STEPS)
    _, *rest = beads(solved.theta)
    beside = torch.stack([model.images(bead).double() for bead in rest]).sum(0)
    size = p + 5
    return finished(
        solved,
        solved.theta[:size],
        solved.covariance[:size, :size],
        data,
        noise,
        beside,
    )
