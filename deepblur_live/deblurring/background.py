"""The smooth background of an image, which deblurring leaves as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from deepblur_live.optics import sliding

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["background"]

# Pixels are averaged in cells of this side; the minimum is over so many cells: 28
# pixels (docs/decisions/0152-background.md).
_CELL, _CELLS = 4, 7


def background(images: torch.Tensor) -> torch.Tensor:
    """Return the smooth background (B, H, W) of images (B, H, W).

    The local minimum of the image, averaged over small cells against the noise, and
    smoothed. A blur with a PSF of sum 1 leaves it nearly unchanged.
    """
    cells = F.avg_pool2d(
        images[:, None], _CELL, ceil_mode=True, count_include_pad=False
    )
    lowest = _over_cells(cells, torch.minimum, torch.inf)
    # Beyond the border there are no cells to average.
    count = _over_cells(torch.ones_like(cells[:1]), torch.add, 0.0)
    for _ in range(2):
        lowest = _over_cells(lowest, torch.add, 0.0) / count
    shape = images.shape[-2:]
    return F.interpolate(lowest, shape, mode="bilinear", align_corners=False)[:, 0]


def _over_cells(
    cells: torch.Tensor,
    combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    beyond: float,
) -> torch.Tensor:
    """Return cells (..., R, C), each combined with those around it."""
    half = _CELLS // 2
    padded = F.pad(cells, (half, half, half, half), value=beyond)
    return sliding(sliding(padded, -2, _CELLS, combine), -1, _CELLS, combine)
