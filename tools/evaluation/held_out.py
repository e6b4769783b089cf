"""The fixed frames of the evaluation: held-out pictures, known blurs, known noise."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from training.pictures import DataError, load_picture, sharp_share, split_of

if TYPE_CHECKING:
    from pathlib import Path

    from deepblur_live.blur import BlurFamily
    from deepblur_live.blur.zernike import ZernikeFamily

__all__ = [
    "SIDE",
    "HeldOutFrame",
    "blurred",
    "held_out_frame",
    "held_out_pictures",
    "scene",
]

SIDE = 512
# Least share of a picture's tiles that are sharp and textured.
_MIN_SHARE = 0.5
# Smaller validation pictures would repeat too often when extended by reflection.
_MIN_SIDE = 512


@dataclass(frozen=True)
class HeldOutFrame:
    """A frame whose blur and sharp image are known.

    Parameters
    ----------
    observed, truth
        (H, W), in [0, 1] but for the noise.
    coefficients
        (P,) true γ, waves rms.
    sigma
        Standard deviation of the noise.
    blurred
        (H, W), the frame without its noise.
    """

    observed: torch.Tensor
    truth: torch.Tensor
    coefficients: torch.Tensor
    sigma: float
    blurred: torch.Tensor


def held_out_pictures(folder: Path, split: str = "test") -> dict[str, list[Path]]:
    """Return the held-out pictures of a data folder, by kind, in a fixed order.

    Only those that are sharp and textured, as γ does not hold a picture's own blur. The
    published tables use the ``"test"`` split, choices the ``"validation"`` split.

    Raises
    ------
    DataError
        When the folder has no MANIFEST.csv or no TILES.csv, or no such picture.
    """
    for name in ("MANIFEST.csv", "TILES.csv"):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder / name}: not there; a folder of held-out pictures has a "
                "MANIFEST.csv (file, sha256, width, height) and a TILES.csv (file, y, "
                "x, size, texture, sharpness)"
            )
    with (folder / "MANIFEST.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"])
    held = [
        folder / row["file"]
        for row in rows
        if split_of(row["file"], row["sha256"]) == split
        and (split == "test" or min(int(row["width"]), int(row["height"])) >= _MIN_SIDE)
    ]
    kinds = {"photographs": ("natural", 1.0), "micrographs": ("microscopy", 2.0)}
    found = {
        kind: [
            path
            for path in held
            if path.parent.name == where
            and sharp_share(path, folder, scale) >= _MIN_SHARE
        ]
        for kind, (where, scale) in kinds.items()
    }
    if not any(found.values()):
        raise DataError(
            f"{folder / 'MANIFEST.csv'}: no picture of the {split} split in natural/ "
            "or microscopy/ is sharp and textured"
        )
    return found


@lru_cache(maxsize=4)
def scene(path: Path, side: int) -> torch.Tensor:
    """Return the middle (side, side) of a picture, extended by reflection if smaller.

    Micrographs are scaled down by two first: most are oversampled and not sharp.
    """
    pixels = load_picture(path)
    if path.parent.name == "microscopy":
        size = (pixels.shape[1] // 2, pixels.shape[0] // 2)
        small = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
        pixels = np.asarray(small).clip(0, 1)
    for axis in (0, 1):
        extra = side - pixels.shape[axis]
        if extra > 0:
            widths = [(0, 0), (0, 0)]
            widths[axis] = (extra // 2, extra - extra // 2)
            pixels = np.pad(pixels, widths, mode="symmetric")
        first = (pixels.shape[axis] - side) // 2
        pixels = np.take(pixels, range(first, first + side), axis)
    return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))


def blurred(
    sharp: torch.Tensor, family: BlurFamily, gamma: torch.Tensor
) -> torch.Tensor:
    """Return a scene (H, W) blurred by A(γ), without the border that lacks data."""
    cut = family.window // 2
    whole = family.operator(gamma, (sharp.shape[0], sharp.shape[1])).forward(sharp)
    return whole[cut:-cut, cut:-cut]


def held_out_frame(
    path: Path,
    number: int,
    family: ZernikeFamily,
    sigma: float,
    rms: float | None = None,
    ranges: tuple[float, ...] | float = 0.15,
) -> HeldOutFrame:
    """Return a picture's frame; `number` seeds its blur and its noise.

    The coefficients are uniform within `ranges`, and scaled to a wavefront of `rms`, in
    waves, if that is given.
    """
    sharp = scene(path, SIDE + family.window - 1)
    generator = torch.Generator().manual_seed(1000 + number)
    gamma = replace(family, ranges=ranges).sample(1, generator)[0]
    if rms is not None:
        gamma = gamma * (rms / gamma.norm())
    clean = blurred(sharp, family, gamma)
    noise = torch.randn(clean.shape, generator=generator)
    cut = family.window // 2
    truth = sharp[cut:-cut, cut:-cut]
    return HeldOutFrame(clean + sigma * noise, truth, gamma, sigma, clean)
