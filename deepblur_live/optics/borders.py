"""Borders: a frame continued periodically and smoothly, to a size that FFTs like."""

from __future__ import annotations

import torch

__all__ = ["extend", "seven_smooth"]


def seven_smooth(n: int, multiple: int = 2) -> int:
    """Return the smallest m ≥ n with no prime factor over 7, a multiple of `multiple`.

    `multiple` itself must have no prime factor over 7.
    """
    m = n + -n % multiple
    while True:
        rest = m
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return m
        m += multiple


def _reflected(index: torch.Tensor, size: int) -> torch.Tensor:
    """Fold an index outside [0, size) back by reflection at the pixels' edges."""
    folded = index % (2 * size)
    return torch.where(folded < size, folded, 2 * size - 1 - folded)


def extend(image: torch.Tensor, margin: int, multiple: int = 2) -> torch.Tensor:
    """Continue images (..., H, W) periodically by at least `margin` pixels.

    The new sides are `seven_smooth`, and multiples of `multiple`.

    The frame stays at the top left: crop ``[..., :H, :W]`` to have it back.
    """
    height, width = image.shape[-2:]
    for axis, size in ((-2, height), (-1, width)):
        extra = seven_smooth(size + margin, multiple) - size
        steps = torch.arange(extra, device=image.device)
        fade = 0.5 * (1 + torch.cos(torch.pi * (steps + 1) / (extra + 1)))
        fade = fade.to(image.dtype)
        if axis == -2:
            fade = fade[:, None]
        end = image.index_select(axis, _reflected(size + steps, size))
        start = image.index_select(axis, _reflected(steps - extra, size))
        image = torch.cat([image, fade * end + (1 - fade) * start], axis)
    return image
