"""How the deblurring network is given noise that varies over the image."""

from __future__ import annotations

from functools import reduce

import torch

from deepblur_live.optics import box_mean, local_light

__all__ = ["noise_contrast", "noise_level"]

# Side in pixels of the mean from which the image's structure is measured.
_WIDE = 17
# Squared contrast below which an image counts as flat.
_FLAT = 1e-18
# Local noise is limited to this many decades above and below the level.
_DECADES = 1.5


def noise_level(sigma: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the noise (B,) where the detail of images y (B, H, W) is.

    The root of the variance, averaged with the squared local contrast as weights. The
    mean over the frame would be that of the dark, which has little to deblur.
    """
    if sigma.dim() == 1:
        return sigma
    light = local_light(y)
    # A flat image has no detail: there all pixels count alike.
    weight = (light - box_mean(light, _WIDE)).square() + _FLAT
    mean = (weight * sigma.square()).sum((-2, -1)) / weight.sum((-2, -1))
    level: torch.Tensor = mean.sqrt()
    return level


def noise_contrast(
    sigma: torch.Tensor, level: torch.Tensor, y: torch.Tensor, shrink: int
) -> torch.Tensor:
    """Return the noise map's channel (B, 1, H / shrink, W / shrink).

    log10 of the noise at each pixel over the level (B,): zero for white noise.
    """
    if sigma.dim() == 1:
        rows, columns = (side // shrink for side in y.shape[-2:])
        return y.new_zeros(len(y), 1, rows, columns)
    relative = torch.log10(sigma / level[:, None, None]).clamp(-_DECADES, _DECADES)
    # On the CPU twice as fast as torch's pooling.
    rows, columns = (size // shrink * shrink for size in relative.shape[-2:])
    down = [relative[:, i:rows:shrink] for i in range(shrink)]
    mean = reduce(torch.add, down)
    across = [mean[..., j:columns:shrink] for j in range(shrink)]
    return reduce(torch.add, across)[:, None] / shrink**2
