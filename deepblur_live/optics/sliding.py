"""Sums, means and extremes over neighbouring pixels, quickly on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["box_mean", "sliding"]


def box_mean(image: torch.Tensor, side: int) -> torch.Tensor:
    """Return images (..., H, W), each pixel the mean of side × side around it, odd.

    Beyond the border the outermost pixels are repeated.
    """
    half = side // 2
    rows, columns = image.shape[-2:]
    wide = image.reshape(-1, 1, rows, columns)
    wide = F.pad(wide, (half, half, half, half), mode="replicate")
    total = sliding(sliding(wide, -2, side, torch.add), -1, side, torch.add)
    return (total / side**2).view(image.shape)


def sliding(
    values: torch.Tensor,
    axis: int,
    length: int,
    combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Return each run of `length` neighbours along an axis, combined into one.

    Runs of 2, 4, 8 … are made of two shorter ones: a run of 17 takes 5 operations. On
    the CPU this is several times faster than torch's pooling.

    Parameters
    ----------
    values
        (..., N, ...), N along the axis; the result has N - length + 1 there.
    axis, length
        Along which, and how many.
    combine
        Combines two tensors of one shape; associative and commutative.
    """
    size = values.shape[axis] - length + 1
    runs, width, start = values, 1, 0
    found: torch.Tensor | None = None
    while True:
        if length & width:
            part = runs.narrow(axis, start, size)
            found = part if found is None else combine(found, part)
            start += width
        if found is not None and start == length:
            return found
        reach = runs.shape[axis] - width
        runs = combine(runs.narrow(axis, 0, reach), runs.narrow(axis, width, reach))
        width *= 2
