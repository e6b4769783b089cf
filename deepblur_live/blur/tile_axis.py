"""How overlapping tiles lie along one axis of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

__all__ = ["TileAxis"]

# Least width in pixels over which neighbouring tiles are blended; and the number of
# tiles across an image that is enough, if size and width allow it.
_RAMP, _ENOUGH = 32, 8
# The residual of a proximal step falls to 0 over this many pixels at a tile's edges.
_TAPER = 8


@dataclass(frozen=True)
class TileAxis:
    """Tiles along one axis of a periodic image; in pixels.

    Parameters
    ----------
    size
        Length of the image.
    count, length, stride
        Number, length and distance of the tiles. Apart from the ramps, `stride` pixels
        belong to one tile only; fewer for the last one.
    ramp
        Width over which neighbours are blended.
    """

    size: int
    count: int
    length: int
    stride: int
    ramp: int

    @classmethod
    def of(cls, size: int, tile: int, halo: int) -> TileAxis:
        """Return the axis of an image, for weights of 0 in `halo` pixels of tiles."""
        if size <= tile:
            return cls(size, 1, size, size, 0)
        inner = tile - 2 * halo
        least, most = inner // 2, max(inner - _RAMP, inner // 2)
        count = math.ceil(size / min(max(size / _ENOUGH, least), most))
        stride = math.ceil(size / count)
        smallest = size - (count - 1) * stride
        return cls(size, count, tile, stride, min(inner - stride, smallest))

    @property
    def start(self) -> int:
        """Where the first tile begins: before the image."""
        return -((self.length - self.stride) // 2)

    @property
    def total(self) -> int:
        """Pixels from the first tile's beginning to the last one's end."""
        return self.stride * (self.count - 1) + self.length

    def index(self, device: torch.device) -> torch.Tensor:
        """Return which pixel of the image each of `total` pixels is."""
        places = torch.arange(self.start, self.start + self.total, device=device)
        return places % self.size

    def _edges(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return where the tiles' own parts (count,) begin and end."""
        begin = torch.arange(self.count, device=like.device) * self.stride
        return begin, (begin + self.stride).clamp(max=self.size)

    def centres(self, part: slice, like: torch.Tensor) -> torch.Tensor:
        """Return the places (count,) of the middles: 0 to 1 from end to end of part."""
        begin, end = self._edges(like)
        middle = (begin + end).to(like.dtype) / 2
        centres: torch.Tensor = (middle - part.start) / (part.stop - part.start)
        return centres

    def weights(self, like: torch.Tensor) -> torch.Tensor:
        """Return the weights (count, length) of the tiles' pixels."""
        if self.count == 1:
            return like.new_ones(1, self.length)
        begin, end = (edge[:, None] for edge in self._edges(like))
        pixel = torch.arange(self.length, device=like.device) + begin + self.start
        pixel = pixel.to(like.dtype) + 0.5
        inside = torch.minimum(pixel - begin, end - pixel)
        weights: torch.Tensor = (0.5 + inside / self.ramp).clamp(0, 1)
        return weights

    def taper(self, like: torch.Tensor) -> torch.Tensor:
        """Return (length,): 1, falling to 0 at both ends of a tile.

        A single tile is the whole image, which is periodic: 1 everywhere.
        """
        if self.count == 1:
            return like.new_ones(self.length)
        place = torch.arange(self.length, device=like.device)
        depth = torch.minimum(place + 1, self.length - place).clamp(0, _TAPER + 1)
        line = 0.5 - 0.5 * torch.cos(torch.pi * depth / (_TAPER + 1))
        return line.to(like.dtype)

    def add(
        self, lines: torch.Tensor, tiles: torch.Tensor, weights: torch.Tensor | None
    ) -> None:
        """Add tiles (..., n, length), times their weights, to lines (..., total)."""
        # Tiles that do not overlap are added at once.
        apart = math.ceil(self.length / self.stride)
        for first in range(min(apart, tiles.shape[-2])):
            some = tiles[..., first::apart, :]
            places = lines[..., first * self.stride :]
            places = places.unfold(-1, self.length, apart * self.stride)
            places = places[..., : some.shape[-2], :]
            if weights is None:
                places += some
            else:
                places.addcmul_(some, weights[first::apart])

    def wrapped(self, lines: torch.Tensor) -> torch.Tensor:
        """Return lines (..., size): ends of (..., total) come in at the other side."""
        before, after = -self.start, self.total + self.start - self.size
        whole = lines[..., before : before + self.size]
        if before:
            whole[..., self.size - before :] += lines[..., :before]
        if after:
            whole[..., :after] += lines[..., self.total - after :]
        return whole
