"""Remove the offsets of whole columns and rows that a camera's readout adds."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

__all__ = ["remove_line_offsets"]

# See docs/decisions/0121-column-and-row-offsets.md
# Number of cosines along a line that show what the frame has there besides offsets.
_COSINES = 8
# Offsets are white: they are measured above this frequency, cycles per pixel, where
# optics transmit least.
_LOWEST = 0.4
# Ratio of the mean's power there to that of the cosines, which differ only by chance
# without offsets. At 512² pixels this is an offset of 0.04 σ.
_LEAST_RATIO = 2.0
# Factor of the offsets' power in the filter, 1 for Wiener's: where a mean is mostly an
# offset, a chance fluctuation of its power must not leave part of it behind.
_OVER = 2.0
# Frequencies over which the power of the lines' means is averaged.
_SMOOTHED = 9


def remove_line_offsets(image: torch.Tensor, *, unread: bool = False) -> bool:
    """Subtract the offsets of columns and of rows from an image (H, W), in place.

    The mean of each line is an offset plus the specimen and noise. Offsets are white
    from line to line, optics transmit little near the sampling's limit, and noise is
    the same in the mean as in weighted means with zero sum: what the mean has in excess
    there is the offsets' power. The lines' means are then filtered by the share of the
    offsets in their power (Wiener), which leaves stripes of the specimen in place.

    Parameters
    ----------
    image
        (H, W).
    unread
        Read nothing back from the image's device, which would wait for a card. If there
        are no offsets, zeros are subtracted.

    Returns
    -------
    bool
        Whether any were found; True if `unread`.
    """
    columns, rows = _offsets(image, unread), _offsets(image.T, unread)
    if columns is not None:
        image -= columns
    if rows is not None:
        image -= rows[:, None]
    return columns is not None or rows is not None


def _offsets(image: torch.Tensor, unread: bool) -> torch.Tensor | None:
    """Return the offsets (W,) of the columns of an image (H, W), None without any."""
    lines = _cosines(len(image), image.dtype, image.device) @ image
    # Reflected: without a step from the last to the first.
    spectra = torch.fft.rfft(torch.cat([lines, lines.flip(1)], 1))
    power = spectra.real**2 + spectra.imag**2
    first = math.ceil(2 * _LOWEST * (power.shape[1] - 1))
    mean, other = power[0, first:].mean(), power[1:, first:].mean()
    found = mean > _LEAST_RATIO * other
    if not (unread or bool(found)):
        return None
    pool = torch.nn.functional.avg_pool1d
    smooth = pool(power[:1], _SMOOTHED, 1, _SMOOTHED // 2, count_include_pad=False)
    share = (_OVER * (mean - other) / smooth[0]).clamp(max=1)
    # The frame's mean brightness is not an offset.
    share[:1].zero_()
    offsets: torch.Tensor = torch.fft.irfft(torch.where(found, share, 0) * spectra[0])
    return offsets[: image.shape[1]]


# A recorded graph reads them where they are: none may be dropped while one is in use.
@lru_cache(maxsize=256)
def _cosines(height: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return the weights (1 + _COSINES, H) of the mean and of cosines along a line."""
    place = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    number = torch.arange(1 + _COSINES, dtype=torch.float64)[:, None]
    weights = torch.cos(math.pi * number * place) * math.sqrt(2)
    weights[0] = 1
    return (weights / height).to(device, dtype)
