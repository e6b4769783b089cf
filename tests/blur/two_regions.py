"""An operator that is no convolution: two PSFs, blended across the field.

A x = Σ_i h_i ⋆ (w_i x), a product-convolution with maps w_i that sum to 1.
"""

from __future__ import annotations

import torch

from deepblur_live.blur import Convolution, prox_by_conjugate_gradient
from deepblur_live.optics import frame_mask


class TwoRegions:
    """Two-region product-convolution with PSFs (..., 2, K, K) on images (H, W)."""

    def __init__(self, psfs, shape, frame=None):
        self.shape = shape
        self.mask = None if frame is None else frame_mask(shape, frame, psfs)
        left = torch.linspace(1, 0, shape[1]).to(psfs).expand(shape)
        self.maps = torch.stack([left, 1 - left])
        self.blurs = [Convolution(psfs[..., i, :, :], shape) for i in range(2)]

    def forward(self, x):
        parts = zip(self.maps, self.blurs, strict=True)
        return sum(blur.forward(x * weight) for weight, blur in parts)

    def adjoint(self, y):
        parts = zip(self.maps, self.blurs, strict=True)
        return sum(weight * blur.adjoint(y) for weight, blur in parts)

    def prepare(self, y):
        return self.adjoint(y)

    def gradient_step(self, z, prepared, step):
        return z - step * (self.adjoint(self.forward(z)) - prepared)

    def prox_data(self, z, y, weight, typical_error=None):
        return prox_by_conjugate_gradient(self, z, y, weight)
