"""Convert camera arrays to the 8-bit images drawn on screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["blend", "displayable", "reduce_to", "scale_bar", "to_uint8"]


def displayable(pixels: NDArray[Any]) -> NDArray[Any] | None:
    """Return a view of an array that can be displayed as an image.

    Parameters
    ----------
    pixels
        Any array delivered by a source.

    Returns
    -------
    image
        (H, W) or (H, W, 3) of a real dtype, sharing memory where possible; the first
        plane of a stack. None if the array cannot be displayed.
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
    image: NDArray[Any],
    region: tuple[float, float, float, float],
    size: tuple[int, int],
) -> tuple[NDArray[Any], tuple[int, int, int, int]]:
    """Crop an image to the visible region and average it down to screen resolution.

    Parameters
    ----------
    image
        (H, W) or (H, W, 3).
    region
        Visible x, y, width, height, in pixels of `image`.
    size
        Width and height of the region on screen, in screen pixels.

    Returns
    -------
    reduced
        float32 block means, or a view of `image` if the screen resolves every pixel.
    rectangle
        x, y, width, height of the part of `image` that `reduced` covers: the region
        and a margin, so that panning shows no border before the next repaint.
    """
    height, width = image.shape[:2]
    x, y, w, h = region
    step = max(1, int(min(w / max(size[0], 1), h / max(size[1], 1), width, height)))

    def span(start: float, length: float, limit: int) -> tuple[int, int]:
        # Whole blocks only: up to step - 1 pixels at the image border are dropped.
        blocks = limit // step
        first = int(np.clip((start - 0.25 * length) // step, 0, blocks - 1))
        last = int(np.clip(np.ceil((start + 1.25 * length) / step), first + 1, blocks))
        return first * step, (last - first) * step

    left, across = span(x, w, width)
    top, down = span(y, h, height)
    part = image[top : top + down, left : left + across]
    if step == 1:
        return part, (left, top, across, down)
    total = np.zeros((down // step, across // step, *image.shape[2:]), np.float32)
    for i in range(step):
        for j in range(step):
            total += part[i:down:step, j:across:step]
    total /= step * step
    return total, (left, top, across, down)


def to_uint8(image: NDArray[Any], levels: tuple[float, float]) -> NDArray[np.uint8]:
    """Map `levels` to 0 and 255; NaN becomes black."""
    low, high = levels
    scaled = image.astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled -= np.float32(low)
        scaled *= np.float32(255.0 / max(high - low, 1e-30))
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    np.clip(scaled, 0, 255, out=scaled)
    return np.ascontiguousarray(scaled.astype(np.uint8))


def blend(
    image: NDArray[np.uint8], over: NDArray[np.uint8], share: float
) -> NDArray[np.uint8]:
    """Lay one image over another of the same shape, with an opacity from 0 to 1."""
    mixed = image.astype(np.float32)
    mixed += np.float32(share) * (over - mixed)
    return np.rint(mixed).astype(np.uint8)


def scale_bar(longest: float, pixel_size_nm: float | None) -> tuple[str, float]:
    """Return the text of a scale bar of a round length, and its length in pixels.

    Parameters
    ----------
    longest
        Greatest length of the bar, pixels.
    pixel_size_nm
        Size of a pixel; None if it isn't known: the length is then in pixels.
    """
    if pixel_size_nm is None:
        length = _round_length(longest)
        return f"{length:g} px", length
    length_nm = _round_length(longest * pixel_size_nm)
    text = f"{length_nm / 1000:g} µm" if length_nm >= 1000 else f"{length_nm:g} nm"
    return text, length_nm / pixel_size_nm


def _round_length(longest: float) -> float:
    power = 10.0 ** np.floor(np.log10(longest))
    return float(power * next(n for n in (5, 2, 1) if n * power <= longest))
