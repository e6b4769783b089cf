"""The specimen of the simulated microscope: a real, sharp micrograph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SPECIMEN_FILE", "load_specimen", "mosaic"]

# Share of its side by which a specimen of a mosaic overlaps its neighbour.
_OVERLAP = 0.1

SPECIMEN_FILE = Path(__file__).parent / "data" / "specimen.png"


def load_specimen(path: Path | str = SPECIMEN_FILE) -> NDArray[np.float32]:
    """Read a grey picture as a specimen.

    Parameters
    ----------
    path
        An 8- or 16-bit grey picture; the shipped micrograph by default
        (its source and licence: ``data/SPECIMEN.md``).

    Returns
    -------
    (H, W) float32, 0 to 1: fluorescence relative to the brightest pixel.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The picture is not grey, or is black.
    """
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    if pixels.ndim != 2 or pixels.dtype.kind != "u":
        raise ValueError(
            f"{path}: a specimen must be an 8- or 16-bit greyscale picture, "
            f"not {pixels.dtype} of shape {pixels.shape}"
        )
    brightest = float(pixels.max())
    if brightest == 0:
        raise ValueError(f"{path}: the picture is black; nothing would fluoresce")
    return (pixels / brightest).astype(np.float32)


def mosaic(specimen: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a specimen of nearly twice the side: four of it, turned by 0 to 270°.

    Parameters
    ----------
    specimen
        (N, N); neighbours overlap by a tenth of it, where one fades into the other.

    Raises
    ------
    ValueError
        The specimen is not square.
    """
    side = specimen.shape[0]
    if specimen.shape != (side, side):
        raise ValueError(f"a mosaic is made of a square specimen, not {specimen.shape}")
    overlap = round(side * _OVERLAP)
    fade = np.ones(side, dtype=np.float32)
    fade[-overlap:] = 1 - (np.arange(overlap) + 0.5) / overlap
    weights = np.stack([fade, fade[::-1]])
    whole = np.zeros((2 * side - overlap,) * 2, dtype=np.float32)
    for turns, (row, column) in enumerate(((0, 0), (0, 1), (1, 1), (1, 0))):
        weight = weights[row][:, None] * weights[column]
        top, left = row * (side - overlap), column * (side - overlap)
        part = whole[top : top + side, left : left + side]
        part += weight * np.rot90(specimen, turns)
    return whole
