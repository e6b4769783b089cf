"""The mean of a frame's beads, registered to a fraction of a pixel."""

from __future__ import annotations

import math

import torch

__all__ = ["border", "correlation", "displacements", "mean_bead", "shifted"]

_ROUNDS = 3


def mean_bead(crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean (C, C) of beads (n, C, C), and the place (n, 2) of each.

    Each crop is freed of its background, weighted by its brightness, and shifted onto
    the mean of all by cross-correlation.
    """
    crops = crops - border(crops)[:, None, None]
    # One bead: the sum of beads that are not registered yet is smeared.
    mean = crops[int(crops.sum((1, 2)).argmax())]
    places = crops.new_zeros(len(crops), 2)
    for _ in range(_ROUNDS):
        places = displacements(mean, crops)
        places = places - places.mean(0)
        mean = shifted(crops, -places).sum(0)
    return mean / len(crops), places


def border(crops: torch.Tensor) -> torch.Tensor:
    """Return the median brightness (n,) along the border of crops (n, C, C)."""
    rows = torch.cat([crops[:, 0], crops[:, -1]], 1)
    columns = torch.cat([crops[:, 1:-1, 0], crops[:, 1:-1, -1]], 1)
    return torch.cat([rows, columns], 1).median(1).values


def shifted(images: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Return periodic images (n, C, C) moved by (n, 2) rows and columns."""
    side = images.shape[-1]
    row = torch.fft.fftfreq(side, dtype=images.dtype)[:, None]
    column = torch.fft.rfftfreq(side, dtype=images.dtype)[None]
    rows, columns = by.T[..., None, None]
    phase = torch.exp(-2j * math.pi * (row * rows + column * columns))
    moved: torch.Tensor = torch.fft.irfft2(
        torch.fft.rfft2(images) * phase, s=(side, side)
    )
    return moved


def correlation(reference: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return the cross-correlation of images (n, C, C) with a reference (C, C).

    (n, R, R), for shifts up to a quarter of the side; no shift is in the middle.
    """
    side = reference.shape[-1]
    spectrum = torch.fft.rfft2(images) * torch.fft.rfft2(reference).conj()
    whole = torch.fft.irfft2(spectrum, s=(side, side))
    reach, centre = side // 4, side // 2
    near = slice(centre - reach, centre + reach + 1)
    centred: torch.Tensor = torch.fft.fftshift(whole, dim=(-2, -1))
    return centred[:, near, near]


def displacements(reference: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return by how much images (n, C, C) are moved from a reference (C, C), (n, 2).

    The maximum of the cross-correlation, by a parabola through its neighbours.
    """
    near = correlation(reference, images)
    width = near.shape[-1]
    top = near[:, 1:-1, 1:-1].flatten(1).argmax(1)
    row, column = top // (width - 2) + 1, top % (width - 2) + 1
    n = torch.arange(len(images))
    here = near[n, row, column]
    offsets = []
    for before, after in (
        (near[n, row - 1, column], near[n, row + 1, column]),
        (near[n, row, column - 1], near[n, row, column + 1]),
    ):
        bend = (before - 2 * here + after).clamp(max=-1e-12)
        offsets.append((0.5 * (before - after) / bend).clamp(-0.5, 0.5))
    return torch.stack([row + offsets[0], column + offsets[1]], 1) - width // 2
