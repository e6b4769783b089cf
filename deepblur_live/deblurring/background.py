"""The smooth background of an image, which deblurring leaves as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    import torch

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
    lowest = -F.max_pool2d(-cells, _CELLS, 1, _CELLS // 2)
    for _ in range(2):
        lowest = F.avg_pool2d(lowest, _CELLS, 1, _CELLS // 2, count_include_pad=False)
    shape = images.shape[-2:]
    return F.interpolate(lowest, shape, mode="bilinear", align_corners=False)[:, 0]
