"""From a camera's array to the 8-bit picture that a pane of the screen needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["displayable", "reduce_to", "to_uint8"]


def displayable(pixels: NDArray[Any]) -> NDArray[Any] | None:
    """View an array as a picture.

    Parameters
    ----------
    pixels
        Any array a source gave.

    Returns
    -------
    picture
        (H, W) or (H, W, 3) of a real number type, sharing memory where it can; a stack
        gives its first plane. None when no picture can be made of it.
    """
    if pixels.dtype.kind == "c":
        pixels = np.abs(pixels)
    if pixels.dtype.kind == "b":
        pixels = pixels.view(np.uint8)
    if pixels.dtype.kind not in "uif" or pixels.size == 0:
        return None
    while pixels.ndim > 2:
        if pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
            return pixels[..., :3]
        pixels = pixels[0]
    return pixels if pixels.ndim == 2 else None


def reduce_to(
    picture: NDArray[Any],
    region: tuple[float, float, float, float],
    size: tuple[int, int],
) -> tuple[NDArray[Any], tuple[int, int, int, int]]:
    """Cut out what is seen and average it down to about the screen's pixels.

    Parameters
    ----------
    picture
        (H, W) or (H, W, 3).
    region
        x, y, width, height that is seen, in pixels of `picture`.
    size
        Width and height of the screen area it fills.

    Returns
    -------
    reduced
        float32 block means, or a view of `picture` where nothing is to be reduced.
    rectangle
        x, y, width, height of the part of `picture` that `reduced` covers: the region
        with a margin, so that a pan does not meet an edge before the next repaint.
    """
    height, width = picture.shape[:2]
    x, y, w, h = region
    step = max(1, int(min(w / max(size[0], 1), h / max(size[1], 1), width, height)))

    def span(start: float, length: float, limit: int) -> tuple[int, int]:
        # Whole blocks only: at most step - 1 pixels at the picture's edge are left out.
        blocks = limit // step
        first = int(np.clip((start - 0.25 * length) // step, 0, blocks - 1))
        last = int(np.clip(np.ceil((start + 1.25 * length) / step), first + 1, blocks))
        return first * step, (last - first) * step

    left, across = span(x, w, width)
    top, down = span(y, h, height)
    part = picture[top : top + down, left : left + across]
    if step == 1:
        return part, (left, top, across, down)
    total = np.zeros((down // step, across // step, *picture.shape[2:]), np.float32)
    for i in range(step):
        for j in range(step):
            total += part[i:down:step, j:across:step]
    total /= step * step
    return total, (left, top, across, down)


def to_uint8(picture: NDArray[Any], levels: tuple[float, float]) -> NDArray[np.uint8]:
    """Map `levels` to 0 and 255; what is not a number becomes black."""
    low, high = levels
    scaled = picture.astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled -= np.float32(low)
        scaled *= np.float32(255.0 / max(high - low, 1e-30))
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    np.clip(scaled, 0, 255, out=scaled)
    return np.ascontiguousarray(scaled.astype(np.uint8))
