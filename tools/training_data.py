"""Training crops without end: sharp tiles of pictures, drawn on the training device.

One flat uint8 tensor holds every picture at every scale; a batch of crops is one
gather, so that a graphics card never waits for the disk.
"""

from __future__ import annotations

import csv
import hashlib
import math
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


__all__ = [
    "SCALES",
    "TEST_PICTURES",
    "CropBank",
    "DataError",
    "Tile",
    "TileList",
    "load_picture",
    "one_line_errors",
    "puncta",
    "read_tiles",
    "sharp_share",
    "split_of",
]

SCALES = (1.0, 1.5, 2.0, 3.0)
# Sharpness of an edge, and the σ in pixels of the Gaussian that blurred it (measured).
_SHARPNESS = (0.32, 0.40, 0.45, 0.53, 0.60, 0.68, 0.79)
_SIGMA = (1.5, 1.0, 0.85, 0.7, 0.6, 0.5, 0.4)
_MAX_SIGMA = 0.62

# Never trained on: the first two are photographs, the others micrographs of nuclei,
# cells, membranes, actin, mitochondria, tissue. Other fields of some of the same
# experiments are in training. 01_pos076 is also the simulated microscope's specimen.
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


class DataError(ValueError):
    """A data folder lacks what a tool needs; the text says what is expected."""


@contextmanager
def one_line_errors(*others: type[Exception]) -> Iterator[None]:
    """End a tool with one line and exit code 2 on a `DataError`, or some others."""
    try:
        yield
    except (DataError, *others) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


class Tile(NamedTuple):
    """A square of a picture; `sigma` is the picture's own blur there in pixels."""

    file: str
    y: int
    x: int
    size: int
    sigma: float
    kind: str


@dataclass(frozen=True)
class TileList:
    """Tiles of one or more folders' tiles lists.

    Parameters
    ----------
    tiles
        The tiles, each with the folder that its file is in.
    digest
        sha256 over the tiles: names the list in a manifest.
    """

    tiles: Sequence[tuple[Path, Tile]]
    digest: str


def read_tiles(
    folders: Sequence[Path], split: str = "train", texture: float = 2.0
) -> TileList:
    """Read the ``TILES.csv`` of picture folders: one split, tiles with enough texture.

    Test pictures are those of `TEST_PICTURES`; validation pictures those whose sha256
    (in the folder's ``MANIFEST.csv`` where there is one, else their own) starts with 0
    or 1; the rest is for training.

    Raises
    ------
    DataError
        When a folder has no TILES.csv, or no such tile is in any.
    KeyError
        When a list lacks a column.
    """
    tiles: list[tuple[Path, Tile]] = []
    for folder in folders:
        if not (folder / "TILES.csv").is_file():
            raise DataError(
                f"{folder / 'TILES.csv'}: not there; --data names folders of pictures "
                "with a TILES.csv (file, y, x, size, texture, sharpness)"
            )
        digests = _digests(folder)
        with (folder / "TILES.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                name = row["file"]
                if name not in digests:
                    content = (folder / name).read_bytes()
                    digests[name] = hashlib.sha256(content).hexdigest()
                if float(row["texture"]) < texture:
                    continue
                if split_of(name, digests[name]) != split:
                    continue
                sigma = float(np.interp(float(row["sharpness"]), _SHARPNESS, _SIGMA))
                micro = name.startswith("microscopy")
                kind = "micrograph" if micro else "photograph"
                place = (int(row["y"]), int(row["x"]), int(row["size"]))
                tiles.append((folder, Tile(name, *place, sigma, kind)))
    if not tiles:
        where = ", ".join(str(folder / "TILES.csv") for folder in folders)
        raise DataError(f"{where}: no tile of the {split} split has enough texture")
    named = repr([tuple(tile) for _, tile in tiles])
    return TileList(tiles, hashlib.sha256(named.encode()).hexdigest())


def _digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of the files that a folder's manifest knows."""
    path = folder / "MANIFEST.csv"
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {row["file"]: row["sha256"] for row in csv.DictReader(file)}


def sharp_share(path: Path, folder: Path, scale: float) -> float:
    """Return the share of a picture's tiles that are sharp and textured.

    Sharp is an own blur of at most 0.73 pixels (sharpness 0.5) once scaled down by
    `scale`, textured a texture of 2.
    """
    name = path.relative_to(folder).as_posix()
    with (folder / "TILES.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"] == name]
    good = [
        float(row["texture"]) >= 2
        and np.interp(float(row["sharpness"]), _SHARPNESS, _SIGMA) <= 0.73 * scale
        for row in rows
    ]
    return sum(good) / max(1, len(good))


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
