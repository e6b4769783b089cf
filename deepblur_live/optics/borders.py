"""Borders: a frame continued periodically and smoothly, to a size that FFTs like."""

from __future__ import annotations

import torch

__all__ = ["extend", "margin", "seen", "seven_smooth"]

# Pixels at a frame's edge that are trusted less and less: beyond it their blur depends
# on what was not seen. Of 0, 8, 16 and 24 the best on validation pictures.
_EDGE = 8


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


def margin(window: int) -> int:
    """Return how far a frame is continued for PSFs of `window` pixels.

    As far as they reach: the frame's two ends share what lies between them. Twice as
    far changes deblurred validation pictures by less than 0.05 dB in the outermost 16
    pixels and not within, and takes 6 % more time at 256², 7 % at 512².
    """
    return window // 2


def _reflected(index: torch.Tensor, size: int) -> torch.Tensor:
    """Fold an index outside [0, size) back by reflection at the pixels' edges."""
    folded = index % (2 * size)
    return torch.where(folded < size, folded, 2 * size - 1 - folded)


def extend(image: torch.Tensor, margin: int, multiple: int = 2) -> torch.Tensor:
    """Continue images (..., H, W) periodically by at least `margin` pixels.

    The new sides are `seven_smooth`, and multiples of `multiple`.

    The frame stays at the top left: crop ``[..., :H, :W]`` to have it back.

    Notes
    -----
    The two ends are reflected and faded into each other. On held-out frames cut to
    381 × 397 pixels the outer 16 pixels came out 0.2 to 2.3 dB worse than where the
    scene beyond was known, the interior as well (within 0.01 dB). Margins up to three
    times the PSF's, harder or no fades changed that by less than 0.1 dB; odd
    reflection gained up to 0.7 dB on clear micrographs and lost 0.4 dB in noise; fading
    to the mean lost up to 10 dB.
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


def seen(
    shape: tuple[int, int], frame: tuple[int, int], like: torch.Tensor
) -> torch.Tensor:
    """Return (H, W): 1 in a frame, falling towards its edges, 0 where it was continued.

    Parameters
    ----------
    shape
        (H, W) of the continued image.
    frame
        (rows, columns) of the frame, at its top left.
    like
        A tensor of the wanted device and dtype.
    """
    lines = []
    for size, part in zip(shape, frame, strict=True):
        place = torch.arange(size, device=like.device)
        # Counted from the nearer edge: 1 for the frame's outermost pixel, 0 outside.
        depth = torch.minimum(place + 1, part - place).clamp(0, _EDGE + 1)
        line = 0.5 - 0.5 * torch.cos(torch.pi * depth / (_EDGE + 1))
        lines.append(line.to(like.dtype))
    return lines[0][:, None] * lines[1]
