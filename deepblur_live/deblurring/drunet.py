"""The quality preset's proximal operator: a small DRUNet, told the noise."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DRUNet"]


class _Block(nn.Module):
    """Two 3×3 convolutions and a rectifier, beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, C, H, W), refined."""
        refined: torch.Tensor = self.second(F.relu(self.first(x), inplace=True))
        return x + refined


class DRUNet(nn.Module):
    """A U-Net of residual blocks, with maps of the iteration and of the noise.

    Parameters
    ----------
    widths
        Features at each scale, finest first; each scale halves the sides.
    blocks
        Residual blocks a scale, on the way down and again on the way up.

    References
    ----------
    Zhang, Li, Zuo, Zhang, Van Gool & Timofte, *Plug-and-Play Image Restoration with
    Deep Denoiser Prior*, IEEE TPAMI 44(10) 2022.
    """

    def __init__(
        self, widths: Sequence[int] = (32, 64, 128, 256), blocks: int = 4
    ) -> None:
        super().__init__()

        def chain(channels: int) -> list[nn.Module]:
            return [_Block(channels) for _ in range(blocks)]

        # H and W must divide by this.
        self.shrink = 2 ** (len(widths) - 1)
        # The maps of iteration and noise also stand in for biases.
        self.head = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList(
            nn.Sequential(*chain(a), nn.Conv2d(a, b, 2, stride=2, bias=False))
            for a, b in itertools.pairwise(widths)
        )
        self.body = nn.Sequential(*chain(widths[-1]))
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(b, a, 2, stride=2, bias=False), *chain(a))
            for a, b in reversed(list(itertools.pairwise(widths)))
        )
        self.tail = nn.Conv2d(widths[0], 1, 3, padding=1, bias=False)
        # The identity at the start: the unrolled network begins as its data step.
        nn.init.zeros_(self.tail.weight)

    def use_channels_last(self) -> None:
        """Lay weights out as CPU and tensor-core convolutions like them best."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Return the proximal point of images (B, 1, H, W), scaled to about [0, 1].

        `condition` is (B, 2): the iteration over their number, and log10 σ.
        """
        maps = condition[..., None, None].to(x.dtype).expand(-1, -1, *x.shape[-2:])
        features = self.head(torch.cat([x, maps], 1))
        passed = []
        for down in self.down:
            passed.append(features)
            features = down(features)
        features = self.body(features)
        for up in self.up:
            features = up(features) + passed.pop()
        residual: torch.Tensor = self.tail(features)
        return x + residual
