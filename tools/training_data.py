"""Endless training crops: sharp tiles of picture folders, drawn on the training device.

Every picture is kept once a scale in one flat uint8 tensor; a batch of crops is one
gather, so that a graphics card never waits for the disk.
"""

from __future__ import annotations

import csv
import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from deepblur_live.optics import Convolution

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "SCALES",
    "TEST_PICTURES",
    "CropBank",
    "TileList",
    "blurred_and_noisy",
    "load_picture",
    "puncta",
    "read_tiles",
    "split_of",
]

SCALES = (1.0, 1.5, 2.0, 3.0)
# Sharpness of an edge blurred by a Gaussian of so many pixels (measured on edges).
_SHARPNESS = (0.32, 0.40, 0.45, 0.53, 0.60, 0.68, 0.79)
_SIGMA = (1.5, 1.0, 0.85, 0.7, 0.6, 0.5, 0.4)
_MAX_SIGMA = 0.62

# Never trained on: the first two are photographs, the others micrographs of nuclei,
# cells, membranes, actin, mitochondria, tissue (whole experiments, not single fields).
# Those of 01_pos076 are also the specimen of the simulated microscope.
TEST_PICTURES = (
    "tampere17__",
    "scikitimag__",
    "bbbc038__c901794d",
    "bianotebooks__bpae_",
    "bianotebooks__e39_lif_",
    "cellprofiler__01_pos076_",
    "cellprofiler__1_162hrhoe2",
    "cellprofiler__channel_1_12",
    "cellprofiler__channel_2_12",
    "neubias__xy_calibrated_16bit_nuclear_protein_treated",
    "neubias__xyc_8bit_tub_h2b_cecog_battery_",
)


@dataclass(frozen=True)
class TileList:
    """Tiles of a tiles list, and what they were chosen by.

    Parameters
    ----------
    rows
        (file, y, x, size, sigma, kind) a tile; sigma is its own blur in pixels.
    digest
        sha256 over the rows: names the list in a manifest.
    """

    rows: Sequence[tuple[str, int, int, int, float, str]]
    digest: str


def read_tiles(
    folder: Path,
    split: str = "train",
    texture: float = 2.0,
    max_files: int | None = None,
) -> TileList:
    """Read `TILES.csv` of a data folder, with its split.

    Test pictures are the photographs and micrographs of `TEST_PICTURES`; validation
    pictures those whose sha256 starts with 0 or 1; the rest is for training.

    Raises
    ------
    FileNotFoundError
        When the folder has no TILES.csv or no MANIFEST.csv.
    """
    for name in ("TILES.csv", "MANIFEST.csv"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name}: not there; --data names a folder "
                "with pictures, MANIFEST.csv and TILES.csv"
            )
    with (folder / "MANIFEST.csv").open(newline="") as file:
        splits = {
            row["file"]: split_of(row["file"], row["sha256"])
            for row in csv.DictReader(file)
        }
    rows = []
    with (folder / "TILES.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if splits.get(row["file"]) != split or float(row["texture"]) < texture:
                continue
            sigma = float(np.interp(float(row["sharpness"]), _SHARPNESS, _SIGMA))
            rows.append(
                (
                    row["file"],
                    int(row["y"]),
                    int(row["x"]),
                    int(row["size"]),
                    sigma,
                    "micrograph"
                    if row["file"].startswith("microscopy")
                    else "photograph",
                )
            )
    if max_files is not None:
        kept = sorted({row[0] for row in rows})[:max_files]
        rows = [row for row in rows if row[0] in kept]
    digest = hashlib.sha256(repr(rows).encode()).hexdigest()
    return TileList(rows, digest)


def split_of(file: str, sha256: str) -> str:
    """Return ``"test"``, ``"validation"`` or ``"train"``."""
    if Path(file).name.startswith(TEST_PICTURES):
        return "test"
    return "validation" if sha256[0] in "01" else "train"


def load_picture(path: Path) -> np.ndarray:
    """Return a picture as float32 in [0, 1]: 0.1 % tails clipped."""
    pixels = np.asarray(Image.open(path)).astype(np.float32)
    if pixels.ndim == 3:
        pixels = pixels[..., :3].mean(-1)
    low, high = np.percentile(pixels, [0.1, 99.9])
    clipped: np.ndarray = np.clip((pixels - low) / max(high - low, 1e-6), 0, 1)
    return clipped


class CropBank:
    """Sharp crops of many pictures, drawn in batches on one device.

    Parameters
    ----------
    folder
        The data folder.
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
        folder: Path,
        tiles: TileList,
        size: int,
        device: torch.device,
        micrographs: float = 0.4,
    ) -> None:
        self.size, self.device = size, device
        planes: list[torch.Tensor] = []
        total = 0
        levels: dict[str, list[tuple[float, int, int, int]]] = {}
        for file in sorted({row[0] for row in tiles.rows}):
            picture = load_picture(folder / file)
            levels[file] = []
            for scale in SCALES:
                height, width = (round(n / scale) for n in picture.shape)
                if min(height, width) < size:
                    break
                small = Image.fromarray(picture).resize(
                    (width, height), Image.Resampling.LANCZOS if scale > 1 else None
                )
                level = np.clip(np.asarray(small) * 255 + 0.5, 0, 255).astype(np.uint8)
                planes.append(torch.from_numpy(level.ravel().copy()))
                levels[file].append((scale, total, height, width))
                total += level.size
        if not planes:
            raise ValueError(f"{folder}: no tile is large and sharp enough for {size}²")
        self.pixels = torch.cat(planes).to(device)
        table, weight = [], []
        counts: dict[tuple[str, str], int] = {}
        for row in tiles.rows:
            counts[row[5], row[0]] = counts.get((row[5], row[0]), 0) + 1
        for file, y, x, side, sigma, kind in tiles.rows:
            for scale, offset, height, width in levels[file]:
                if sigma / scale > _MAX_SIGMA:
                    continue
                centre_y, centre_x = (y + side / 2) / scale, (x + side / 2) / scale
                table.append(
                    (offset, height, width, centre_y, centre_x, kind == "micrograph")
                )
                # A large picture's many tiles must not crowd out the small ones.
                weight.append(1 / math.sqrt(counts[kind, file]))
        if not table:
            raise ValueError(f"{folder}: no tile is sharp enough")
        self.table = torch.tensor(table, dtype=torch.float64)
        chance = torch.tensor(weight, dtype=torch.float64)
        micro = self.table[:, 5] > 0
        for mask, share in ((micro, micrographs), (~micro, 1 - micrographs)):
            if mask.any():
                chance[mask] *= share / chance[mask].sum()
        self.chance = chance

    def draw(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Return (n, size, size) float32 crops in [0, 1], turned, flipped, contrasted.

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
    """Return (n, size, size) synthetic point-like specimens: spectra easy to read."""
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


def blurred_and_noisy(
    sharp: torch.Tensor,
    psf: torch.Tensor,
    sigma: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the crops' interior (n, H-K+1, W-K+1), blurred, with noise of mean σ.

    The share of shot noise is drawn anew for each crop, from none to all.
    """
    cut = psf.shape[-1] // 2
    shape = (sharp.shape[-2], sharp.shape[-1])
    blurred = Convolution(psf, shape).forward(sharp)[:, cut:-cut, cut:-cut]
    n, device = len(sharp), sharp.device
    shot = torch.rand(n, 1, 1, generator=generator).to(device)
    level = blurred.clamp(min=0)
    level = level / level.mean((1, 2), keepdim=True).clamp(min=1e-4)
    spread = (1 - shot + shot * level).sqrt()
    # Large draws on the device; the seed is the generator's, so runs repeat.
    seed = int(torch.randint(0, 2**62, (1,), generator=generator).item())
    local = torch.Generator(device).manual_seed(seed)
    noise = torch.randn(blurred.shape, device=device, generator=local)
    return blurred + sigma.to(device)[:, None, None] * spread * noise
