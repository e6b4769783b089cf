"""A series of single pictures: one TIFF or PNG file a frame, in natural order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from deepblur_live.acquisition.replay_source import ReplayError, ReplaySource
from deepblur_live.acquisition.replay_tiff import TIFF_SUFFIXES, open_tiff

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["PICTURE_SUFFIXES", "natural_order", "open_pictures"]

PICTURE_SUFFIXES = (*TIFF_SUFFIXES, ".png")


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Return a sorting key by which img2 comes before img10."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def _read_png(path: Path) -> NDArray[Any]:
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            pixels = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise ReplayError(f"{path}: not a readable PNG: {error}") from error
    if not (mode in ("L", "F") or mode.startswith("I")):
        raise ReplayError(
            f"{path}: a picture in colour or of 1 bit (mode {mode}); save it as grey"
        )
    # Pillow opens 16-bit PNGs of some writers as 32 bits.
    return pixels.astype(np.uint16) if mode == "I" else pixels


def open_pictures(
    where: Path, files: Iterable[Path], channel: int | str | None = None
) -> ReplaySource:
    """Open pictures as one series, in the natural order of their names.

    Parameters
    ----------
    where
        The folder or pattern they were found by, for messages.
    files
        One file a frame.
    channel
        Of multi-channel TIFF files.

    Raises
    ------
    ReplayError
        There is no picture, or the first cannot be read or holds several planes.
    """
    ordered = sorted(files, key=natural_order)
    if not ordered:
        raise ReplayError(
            f"{where}: no pictures; a folder needs files that end in "
            f"{', '.join(PICTURE_SUFFIXES)}"
        )

    pixel_size_nm: float | None = None

    def read(index: int) -> NDArray[Any]:
        nonlocal pixel_size_nm
        file = ordered[index]
        if file.suffix.lower() not in PICTURE_SUFFIXES:
            raise ReplayError(f"{file}: not a picture ({', '.join(PICTURE_SUFFIXES)})")
        if file.suffix.lower() == ".png":
            return _read_png(file)
        with open_tiff(file, channel) as plane:
            if len(plane) != 1:
                raise ReplayError(
                    f"{file}: holds {len(plane)} planes, a folder needs one a file; "
                    "replay this file by itself"
                )
            pixel_size_nm = plane.pixel_size_nm
            return plane[0]

    first = read(0)
    return ReplaySource(
        path=where,
        length=len(ordered),
        shape=(first.shape[0], first.shape[1]),
        dtype=first.dtype,
        read=read,
        pixel_size_nm=pixel_size_nm,
    )
