"""Training crops without end: sharp tiles of pictures, drawn on the training device.

One flat uint8 tensor holds every picture at every scale; a batch of crops is one
gather, so that a graphics card never waits for the disk.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from training.pictures import DataError, load_picture

if TYPE_CHECKING:
    from pathlib import Path

    from training.pictures import TileList

__all__ = ["SCALES", "CropBank", "puncta"]

SCALES = (1.0, 1.5, 2.0, 3.0)
_MAX_SIGMA = 0.62


class CropBank:
    """Sharp crops of many pictures, drawn in batches on one device.

    Parameters
    ----------
    tiles
        Which tiles.
    size
        Side of a crop in pixels.
    device
        Where the pictures live and crops are drawn.
    micrographs
        Share of crops drawn from micrographs.
    """

    def __init__(
        self,
        tiles: TileList,
        size: int,
        device: torch.device,
        micrographs: float = 0.4,
    ) -> None:
        self.size, self.device = size, device
        planes: list[torch.Tensor] = []
        total = 0
        levels: dict[Path, list[tuple[float, int, int, int]]] = {}
        for path in sorted({folder / tile.file for folder, tile in tiles.tiles}):
            picture = load_picture(path)
            levels[path] = []
            for scale in SCALES:
                height, width = (round(n / scale) for n in picture.shape)
                if min(height, width) < size:
                    break
                small = Image.fromarray(picture).resize(
                    (width, height), Image.Resampling.LANCZOS if scale > 1 else None
                )
                level = np.clip(np.asarray(small) * 255 + 0.5, 0, 255).astype(np.uint8)
                planes.append(torch.from_numpy(level.ravel().copy()))
                levels[path].append((scale, total, height, width))
                total += level.size
        table, weight = [], []
        counts = Counter(folder / tile.file for folder, tile in tiles.tiles)
        for folder, tile in tiles.tiles:
            path = folder / tile.file
            for scale, offset, height, width in levels[path]:
                if tile.sigma / scale > _MAX_SIGMA:
                    continue
                y = (tile.y + tile.size / 2) / scale
                x = (tile.x + tile.size / 2) / scale
                micro = tile.kind == "micrograph"
                table.append((offset, height, width, y, x, micro))
                # A large picture's many tiles must not crowd out the small ones.
                weight.append(1 / math.sqrt(counts[path]))
        if not table:
            raise DataError(f"no tile is sharp enough for crops of {size}²")
        self.pixels = torch.cat(planes).to(device)
        self.table = torch.tensor(table, dtype=torch.float64)
        chance = torch.tensor(weight, dtype=torch.float64)
        from_micro = self.table[:, 5] > 0
        shares = ((from_micro, micrographs), (~from_micro, 1 - micrographs))
        for mask, share in shares:
            if mask.any():
                chance[mask] *= share / chance[mask].sum()
        self.chance = chance

    def draw(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Return (n, size, size) float32 crops in [0, 1], augmented at random.

        They are rotated, flipped, and given other contrast curves.

        The generator is on the CPU.
        """
        rows = self.table[
            torch.multinomial(self.chance, n, replacement=True, generator=generator)
        ]
        offset, height, width, y, x, _ = rows.T
        jitter = torch.rand(2, n, generator=generator, dtype=torch.float64) - 0.5
        side = self.size
        top = (y - side / 2 + jitter[0] * side / 2).clamp(min=0)
        left = (x - side / 2 + jitter[1] * side / 2).clamp(min=0)
        top = torch.minimum(top, height - side).long()
        left = torch.minimum(left, width - side).long()
        first = (offset.long() + top * width.long() + left).to(self.device)
        stride = width.long().to(self.device)
        steps = torch.arange(side, device=self.device)
        index = (
            first[:, None, None] + steps[:, None] * stride[:, None, None] + steps[None]
        )
        crops = self.pixels[index].float() / 255
        turns = torch.randint(0, 8, (1,), generator=generator).item()
        crops = torch.rot90(crops, int(turns) % 4, (1, 2))
        if turns >= 4:
            crops = crops.flip(2)
        # Contrast curves differ between cameras and stains.
        gamma = torch.exp((torch.rand(n, generator=generator) - 0.4) * 0.8)
        return crops.clamp(min=0) ** gamma.to(self.device)[:, None, None]


def puncta(
    n: int, size: int, generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    """Return (n, size, size) synthetic points, whose spectra are nearly flat."""
    density = torch.exp(torch.rand(n, 1, 1, generator=generator) * 4.6 - 9.2)
    points = torch.rand(n, size, size, generator=generator) < density
    brightness = torch.rand(n, size, size, generator=generator) ** 2
    image = (points * brightness).to(device)
    width = 0.3 + 0.5 * torch.rand(1, generator=generator).item()
    taps = torch.exp(-0.5 * (torch.arange(-3, 4, device=device) / width) ** 2)
    taps = taps / taps.sum()
    image = torch.nn.functional.conv2d(
        image[:, None], taps.view(1, 1, 1, 7), padding="same"
    )
    image = torch.nn.functional.conv2d(image, taps.view(1, 1, 7, 1), padding="same")[
        :, 0
    ]
    return image / image.amax((1, 2), keepdim=True).clamp(min=1e-6)
