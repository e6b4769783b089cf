"""The learned proximal operator: a small CNN at half resolution, given the noise."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["SLOPE", "ProximalNet"]

# Leaky: with a plain rectifier a third of the modulated channels died in training.
SLOPE = 0.1


class ProximalNet(nn.Module):
    """A few 3×3 convolutions at 1/`shrink` resolution, with a residual path.

    One set of weights serves all iterations and noise levels: two scalars shift and
    scale its features. Pixel unshuffling makes it several times cheaper than at full
    resolution and enlarges its receptive field.

    Parameters
    ----------
    channels
        Features per pixel of the shrunk image.
    shrink
        Pixels are folded `shrink` × `shrink` into channels; H and W must divide by it.
    depth
        Number of convolutions.
    noise_map
        Whether one more input channel says how the noise varies over the image.
    """

    def __init__(
        self,
        channels: int = 32,
        shrink: int = 2,
        depth: int = 5,
        noise_map: bool = False,
    ) -> None:
        super().__init__()
        self.shrink, self.noise_map = shrink, noise_map
        inputs = shrink**2 + noise_map
        widths = [inputs, *[channels] * (depth - 1), shrink**2]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)
        )
        self.condition = nn.Sequential(
            nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2 * channels * (depth - 1))
        )
        # The identity at the start: the unrolled network begins as plain FISTA.
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def use_channels_last(self) -> None:
        """Lay weights out as CPU and tensor-core convolutions prefer."""
        for layer in self.layers:
            weight = layer.get_parameter("weight")
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def modulation(
        self, condition: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return scale and shift (B, C) of each hidden layer for conditions (B, 2)."""
        parts = self.condition(condition).chunk(len(self.layers) - 1, dim=1)
        pairs = (part.chunk(2, dim=1) for part in parts)
        return [(1 + scale, shift) for scale, shift in pairs]

    def forward(
        self,
        x: torch.Tensor,
        condition: torch.Tensor,
        contrast: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the proximal point of images (B, 1, H, W), scaled to about [0, 1].

        `condition` is (B, 2): the iteration over their number, and log10 σ. `contrast`
        is the noise map's channel (B, 1, H / shrink, W / shrink), see `noise_contrast`.
        """
        features = F.pixel_unshuffle(x, self.shrink)
        if contrast is not None:
            features = torch.cat([features, contrast], 1)
        for layer, (scale, shift) in zip(
            self.layers, self.modulation(condition), strict=False
        ):
            features = torch.addcmul(
                shift[..., None, None], layer(features), scale[..., None, None]
            )
            features = F.leaky_relu(features, SLOPE, inplace=True)
        residual = self.layers[-1](features)
        return x + F.pixel_shuffle(residual, self.shrink)
