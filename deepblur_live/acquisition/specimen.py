"""The specimen of the simulated microscope: a real, sharp micrograph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SPECIMEN_FILE", "load_specimen"]

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
    (H, W) float32, 0 to 1: the share of the brightest fluorescence.

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
            f"{path}: a specimen is a grey picture of 8 or 16 bits, "
            f"got {pixels.dtype} of shape {pixels.shape}"
        )
    brightest = float(pixels.max())
    if brightest == 0:
        raise ValueError(f"{path}: the picture is black; nothing would fluoresce")
    return (pixels / brightest).astype(np.float32)
