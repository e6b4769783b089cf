"""Folders of pictures: their tiles, their splits, and errors in one line."""

from __future__ import annotations

import csv
import hashlib
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "TEST_PICTURES",
    "DataError",
    "Tile",
    "TileList",
    "load_picture",
    "one_line_errors",
    "read_tiles",
    "sharp_share",
    "split_of",
]

# Sharpness of an edge, and the σ in pixels of the Gaussian that blurred it (measured).
_SHARPNESS = (0.32, 0.40, 0.45, 0.53, 0.60, 0.68, 0.79)
_SIGMA = (1.5, 1.0, 0.85, 0.7, 0.6, 0.5, 0.4)

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
