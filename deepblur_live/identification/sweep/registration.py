"""Lateral registration of the planes of a focus sweep, by whole pixels."""

from __future__ import annotations

import torch

__all__ = ["lateral_shifts", "registered"]

# Phases are compared up to this share of the coherent cut-off: beyond it defocus may
# invert the contrast.
_BAND = 0.5


def lateral_shifts(planes: torch.Tensor, reference: int, cutoff: float) -> torch.Tensor:
    """Return the shift (K, 2) of planes (K, H, W), in whole pixels along y and x.

    By phase correlation with the reference plane.

    Parameters
    ----------
    planes
        (K, H, W).
    reference
        Index of the plane whose shift is zero.
    cutoff
        Coherent cut-off, cycles per pixel.
    """
    height, width = planes.shape[-2:]
    taper = (
        torch.hann_window(height, dtype=planes.dtype)[:, None]
        * torch.hann_window(width, dtype=planes.dtype)[None]
    )
    centred = planes - planes.mean((-2, -1), keepdim=True)
    spectra = torch.fft.rfft2(centred * taper)
    cross = spectra * spectra[reference].conj()
    y = torch.fft.fftfreq(height, dtype=planes.dtype)[:, None]
    x = torch.fft.rfftfreq(width, dtype=planes.dtype)[None]
    low = torch.exp(-0.5 * (y**2 + x**2) / (_BAND * cutoff) ** 2)
    tiny = torch.finfo(planes.dtype).tiny
    peaks = torch.fft.irfft2(cross / cross.abs().clamp(min=tiny) * low, (height, width))
    at = peaks.flatten(1).argmax(1)
    shifts = torch.stack([at // width, at % width], 1)
    size = torch.tensor([height, width])
    return torch.where(shifts > size // 2, shifts - size, shifts)


def registered(planes: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Return the part (K, h, w) of planes (K, H, W) that all of them show."""
    height, width = planes.shape[-2:]
    low, high = shifts.amin(0), shifts.amax(0)
    rows, columns = (
        int(size - (high[axis] - low[axis]))
        for axis, size in enumerate((height, width))
    )
    cut = []
    for plane, shift in zip(planes, shifts, strict=True):
        top, left = (int(v) for v in shift - low)
        cut.append(plane[top : top + rows, left : left + columns])
    return torch.stack(cut)
