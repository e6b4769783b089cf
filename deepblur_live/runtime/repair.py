"""Find hot and dead pixels by comparison with their neighbours, and replace them."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

__all__ = ["COARSEST", "repair_pixels", "repair_unread"]

COARSEST = 1 / 2.2
"""Coherent cut-off, cycles per pixel, of the coarsest sampling that a model serves."""

# See docs/decisions/0120-hot-and-dead-pixels.md
# Real points may be sharper than an Airy pattern: by this factor (apodisation at high
# NA, a wrong pixel size), and in crowds their neighbours spread less by this factor.
_SHARPER, _MARGIN = 1.05, 1.1
# Number of places along either side of a pixel at which the sharpest point may be.
_PLACES = 21
# A repaired pixel differs from the mean of four neighbours by more than this many
# standard deviations of that difference.
_DEVIATIONS = 6.0
# A larger share of isolated pixels is not defects but the specimen.
_LARGEST_SHARE = 0.005
# A second pass finds the dimmer of two adjacent hot pixels.
_PASSES = 2
# Largest number of isolated pixels where nothing is read back from the card.
_PIXELS_PER_CANDIDATE = 32
# The noise is measured on about this many pixels.
_SAMPLE = 16_384
_AROUND = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j)


def repair_pixels(image: torch.Tensor, cutoff: float = COARSEST) -> int:
    """Replace isolated bright or dark pixels, in place, by their neighbours' median.

    A PSF spreads light over neighbouring pixels; a defect or a cosmic ray does not, and
    raises the spectrum at all frequencies. A pixel is isolated if its second brightest
    neighbour exceeds the dimmest by less, relative to its own excess, than around the
    sharpest point that the optics can form, and if noise does not explain it. The
    neighbours' slope is left out. The same applies to dark pixels, upside down.

    Parameters
    ----------
    image
        (H, W), in any unit.
    cutoff
        Coherent cut-off in cycles per pixel.

    Returns
    -------
    int
        Number of pixels replaced.
    """
    whole, rise, isolated = _rises(image)
    rows, columns = torch.nonzero(isolated, as_tuple=True)
    # Invert dark pixels, so that the rest is the same for both.
    sign = rise[rows, columns].sign()
    largest, total = _LARGEST_SHARE * image.numel() + 1, 0
    for _ in range(_PASSES if len(rows) else 0):
        around = sign * torch.stack(
            [whole[rows + 1 + i, columns + 1 + j] for i, j in _AROUND]
        )
        found, highest = _spread(sign * image[rows, columns], around)
        alone = highest & (found < least_spread(cutoff) / _MARGIN)
        count = int(alone.sum())
        if not 0 < count <= largest:
            break
        # The median of eight: between the fourth and the fifth.
        middle = sign[alone] * around[:, alone].sort(0).values[3:5].mean(0)
        y, x = rows[alone], columns[alone]
        image[y, x] = whole[y + 1, x + 1] = middle
        total += count
    return total


def repair_unread(image: torch.Tensor, cutoff: float = COARSEST) -> None:
    """Repair pixels as `repair_pixels`, but read nothing back from the image's device.

    Reading would wait for a card. The number of pixels that are examined is fixed: of
    more than one local extremum in 32 pixels, the last ones are left unchanged.
    """
    whole, rise, isolated = _rises(image)
    candidates = max(1, image.numel() // _PIXELS_PER_CANDIDATE)
    largest = _LARGEST_SHARE * image.numel() + 1
    allowed = torch.ones((), dtype=torch.bool, device=image.device)
    for _ in range(_PASSES):
        top, bottom = (
            torch.nn.functional.max_pool2d(upright[None, None], 3, 1)[0, 0]
            for upright in (whole, -whole)
        )
        value = whole[1:-1, 1:-1]
        extreme = torch.where(rise > 0, value >= top, -value >= bottom)
        # The list is filled up to its fixed length with the place -1: the corner of the
        # border that is added to the image, which is written unchanged.
        found = torch.nonzero_static(isolated & extreme, size=candidates)
        rows, columns = (found + 1).T
        sign = rise[rows - 1, columns - 1].sign()
        around = sign * torch.stack([whole[rows + i, columns + j] for i, j in _AROUND])
        value = whole[rows, columns]
        spread, highest = _spread(sign * value, around)
        alone = highest & (spread < least_spread(cutoff) / _MARGIN)
        alone = alone & (found[:, 0] >= 0)
        allowed = allowed & (alone.sum() <= largest)
        middle = sign * around.sort(0).values[3:5].mean(0)
        whole[rows, columns] = torch.where(alone & allowed, middle, value)
    image.copy_(whole[1:-1, 1:-1])


def _rises(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return an image with a border, its rise above neighbours, and where it is large.

    (H + 2, W + 2), reflected without repeating it, and twice (H, W).
    """
    whole = torch.nn.functional.pad(image[None, None], (1, 1, 1, 1), "reflect")[0, 0]
    rise = whole[:-2, 1:-1] + whole[2:, 1:-1]
    rise.add_(whole[1:-1, :-2]).add_(whole[1:-1, 2:]).mul_(-0.25).add_(image)
    size = rise.abs()
    stride = max(1, math.isqrt(size.numel() // _SAMPLE))
    # The median of |x| is 0.6745 standard deviations of a normal x.
    sigma = size[::stride, ::stride].median() / 0.6745
    return whole, rise, size > _DEVIATIONS * sigma


@lru_cache(maxsize=8)
def least_spread(cutoff: float) -> float:
    """Return the least spread of the neighbours of a point in focus.

    Of Airy patterns (2 J₁(v)/v)², v = 2π·cutoff·r, at places within a pixel that is
    their brightest: aberrated points spread further.
    """
    line = torch.linspace(-0.5, 0.5, _PLACES)
    places = torch.cartesian_prod(line, line)
    grid = torch.tensor(((0, 0), *_AROUND))
    v = 2 * math.pi * _SHARPER * cutoff * torch.cdist(grid.float(), places)
    v = v.clamp(min=1e-3).double()
    value, *around = (2 * torch.special.bessel_j1(v) / v) ** 2
    spread, highest = _spread(value, torch.stack(around))
    return float(spread[highest].min())


def _spread(
    value: torch.Tensor, around: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the spread of neighbours (8, N), and whether pixels (N,) are the highest.

    The spread is the second brightest minus the dimmest, relative to the rise of the
    pixel above that, without the neighbours' slope, which is the specimen's. The slope
    is the median of three differences along either axis, so that one defect among the
    neighbours does not count.
    """
    highest = value >= around.amax(0)
    for place, before, after in _axes(around.device):
        steps = (around[after] - around[before]) / 2
        around = around - place.to(around)[:, None] * steps.median(0).values
    ordered = around.sort(0).values
    rise = (value - ordered[0]).clamp(min=torch.finfo(value.dtype).tiny)
    return (ordered[-2] - ordered[0]) / rise, highest


@lru_cache(maxsize=4)
def _axes(
    device: torch.device,
) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], ...]:
    """Return the places (8,) of neighbours along either axis, and those on each side.

    Cached, as copying them to a card would wait for it.
    """
    axes = []
    for line in torch.tensor(_AROUND).T:
        before, after = (side.nonzero()[:, 0] for side in (line < 0, line > 0))
        axes.append((line.to(device), before.to(device), after.to(device)))
    return tuple(axes)
