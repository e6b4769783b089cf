"""The optical transfer function of a PSF on an image's frequencies."""

from __future__ import annotations

import torch

__all__ = ["otf"]


def otf(psf: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Return the transfer function (..., H, W // 2 + 1) of a centred PSF.

    Parameters
    ----------
    psf
        (..., K, K), K odd; real. Differentiable.
    shape
        (H, W) of the image.

    Raises
    ------
    ValueError
        When the PSF is larger than the image, or its sides are even.
    """
    rows, columns = psf.shape[-2:]
    if rows % 2 == 0 or columns % 2 == 0:
        raise ValueError(f"a PSF has odd sides, got {rows} × {columns}")
    if rows > shape[0] or columns > shape[1]:
        raise ValueError(
            f"the PSF of {rows} × {columns} pixels does not fit into an image of "
            f"{shape[0]} × {shape[1]}; pad the image to at least the PSF's size"
        )
    # `rfft2` of the PSF in an image of zeros; the rows of zeros need no transform.
    pad = torch.nn.functional.pad
    along = pad(psf, (0, shape[1] - columns)).roll(-(columns // 2), -1)
    half = pad(torch.fft.rfft(along), (0, 0, 0, shape[0] - rows))
    transfer: torch.Tensor = torch.fft.fft(half.roll(-(rows // 2), -2), dim=-2)
    return transfer
