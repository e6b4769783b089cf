"""Frame borders: periodic, smooth extension to a size that suits FFTs."""

from __future__ import annotations

import torch

__all__ = ["extend", "frame_mask", "frame_part", "margin", "seven_smooth"]

# Width of the mask's edge in pixels: near it the blurred frame depends on what lies
# outside (docs/decisions/0005-frame-borders.md).
_EDGE = 8


def seven_smooth(n: int, multiple: int = 2) -> int:
    """Return the smallest m ≥ n with no prime factor over 7, a multiple of `multiple`.

    `multiple` itself must have no prime factor over 7.
    """
    m = n + -n % multiple
    while True:
        quotient = m
        for prime in (2, 3, 5, 7):
            while quotient % prime == 0:
                quotient //= prime
        if quotient == 1:
            return m
        m += multiple


def margin(window: int) -> int:
    """Return by how many pixels a frame is extended for PSFs of `window` pixels.

    Half a window: both ends of the frame share what lies between them.
    """
    return window // 2


def _reflected(index: torch.Tensor, size: int) -> torch.Tensor:
    """Fold an index outside [0, size) back by reflection at the pixels' edges."""
    folded = index % (2 * size)
    return torch.where(folded < size, folded, 2 * size - 1 - folded)


def extend(image: torch.Tensor, margin: int, multiple: int = 2) -> torch.Tensor:
    """Extend images (..., H, W) periodically by at least `margin` pixels.

    The new sides are `seven_smooth`, and multiples of `multiple`. The frame is in the
    middle, at `frame_part`: a network whose convolutions pad with zeros then has a part
    of the extension between the frame and that padding on all sides.

    Notes
    -----
    The two ends are reflected and cross-faded. Alternatives that were measured are in
    ``docs/decisions/0005-frame-borders.md``.
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
    rows, columns = frame_part((image.shape[-2], image.shape[-1]), (height, width))
    return image.roll((rows.start, columns.start), (-2, -1))


def frame_part(shape: tuple[int, int], frame: tuple[int, int]) -> tuple[slice, slice]:
    """Return where a frame (rows, columns) is in its extension (H, W)."""
    top, left = ((whole - part) // 2 for whole, part in zip(shape, frame, strict=True))
    return slice(top, top + frame[0]), slice(left, left + frame[1])


def frame_mask(
    shape: tuple[int, int],
    frame: tuple[int, int],
    like: torch.Tensor,
) -> torch.Tensor:
    """Return (H, W): 1 inside a frame, falling to 0 at its edges and beyond.

    Parameters
    ----------
    shape
        (H, W) of the extended image.
    frame
        (rows, columns) of the frame, in its middle (`frame_part`).
    like
        A tensor of the wanted device and dtype.
    """
    lines = []
    places = frame_part(shape, frame)
    for size, part, where in zip(shape, frame, places, strict=True):
        place = torch.arange(size, device=like.device) - where.start
        # Distance to the nearer edge: 1 for the outermost pixel of the frame.
        depth = torch.minimum(place + 1, part - place).clamp(0, _EDGE + 1)
        line = 0.5 - 0.5 * torch.cos(torch.pi * depth / (_EDGE + 1))
        lines.append(line.to(like.dtype))
    mask: torch.Tensor = lines[0][:, None] * lines[1]
    return mask
