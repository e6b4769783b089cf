"""The deblurring network with its proximal network compiled by torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from deepblur_live.deblurring.folded import FoldedFista
from deepblur_live.deblurring.proximal import SLOPE

if TYPE_CHECKING:
    from deepblur_live.deblurring.fista import UnrolledFista

__all__ = ["CompiledFista"]


class CompiledFista(FoldedFista):
    """`FoldedFista` whose proximal network is compiled: the same numbers.

    The first image of a shape takes up to a minute; a C++ compiler or Triton is needed.

    Parameters
    ----------
    network, dtype
        As `FoldedFista`.
    backend
        Of `torch.compile`.
    """

    def __init__(
        self,
        network: UnrolledFista,
        dtype: torch.dtype = torch.float32,
        backend: str = "inductor",
    ) -> None:
        super().__init__(network, dtype)
        self._compiled = torch.compile(
            _proximal, backend=backend, dynamic=False, fullgraph=True
        )

    @torch.no_grad()
    def proximal(self, z: torch.Tensor, iteration: int) -> torch.Tensor:
        """Return the proximal point of images (B, H, W) in one of the iterations."""
        # Weights are arguments: as constants, each iteration would be compiled apart.
        weights = self._hidden[iteration], self._last
        sharp: torch.Tensor = self._compiled(
            z, self._contrast, *weights, self._network.proximal.shrink, self._dtype
        )
        return sharp


def _proximal(
    z: torch.Tensor,
    contrast: torch.Tensor | None,
    hidden: list[tuple[torch.Tensor, torch.Tensor]],
    last: tuple[torch.Tensor, torch.Tensor],
    fold: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Do what `FoldedFista.proximal` does, in operations the compiler supports."""
    features = F.pixel_unshuffle(z[:, None].to(dtype), fold)
    if contrast is not None:
        features = torch.cat([features, contrast], 1)
    for weight, bias in hidden:
        features = F.leaky_relu(F.conv2d(features, weight, bias, padding=1), SLOPE)
    residual = F.conv2d(features, *last, padding=1)
    return z + F.pixel_shuffle(residual, fold)[:, 0]
