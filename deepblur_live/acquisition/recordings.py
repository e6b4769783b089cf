"""Open recordings: TIFF and OME-TIFF stacks, OME-Zarr, folders of single pictures."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from deepblur_live.acquisition.series import Series, SeriesError
from deepblur_live.acquisition.series_tiff import TIFF_SUFFIXES, open_tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["open_series"]

_SUFFIXES = (*TIFF_SUFFIXES, ".png")
# Files that a folder has if it is a Zarr store.
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
_KINDS = (
    "a TIFF or OME-TIFF stack (.tif, .tiff, .btf), an OME-Zarr folder, a folder or "
    "pattern of single TIFF or PNG pictures"
)


def open_series(path: Path | str, *, channel: int | str | None = None) -> Series:
    """Open a recorded series; its frames are read one at a time, when asked for.

    Parameters
    ----------
    path
        A TIFF or OME-TIFF stack, an OME-Zarr (0.4, 0.5; level 0) or the ``zarr.json``
        in it, a folder of single-plane TIFF or PNG pictures, or a pattern of such
        (``"run1/*.tif"``);
        pictures are taken in natural order (2 before 10).
    channel
        Number or name of the channel, needed where there are several.

    Raises
    ------
    SeriesError
        There is no such file, or it cannot be read, is truncated, empty, in colour, or
        not a series of planes; the text names the file and what would be right.
    """
    text, path = str(path), Path(path)
    if path.name in _ZARR_MARKS and path.is_file():
        path = path.parent
    if path.is_dir():
        if _is_zarr(path):
            # Its import takes longer than that of all other readers.
            from deepblur_live.acquisition.series_zarr import open_zarr

            return open_zarr(path, channel)
        pictures = [p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES]
        return _open_pictures(path, pictures, channel)
    if path.is_file():
        if path.suffix.lower() in TIFF_SUFFIXES:
            return open_tiff(path, channel)
        if path.suffix.lower() in _SUFFIXES:
            return _open_pictures(path, [path], channel)
        raise SeriesError(f"{path}: unknown file type; give {_KINDS}")
    if glob.has_magic(text):
        return _open_pictures(path, [Path(found) for found in glob.glob(text)], channel)
    raise SeriesError(f"{path}: no such file or folder; give {_KINDS}")


def _is_zarr(path: Path) -> bool:
    return path.suffix.lower() == ".zarr" or any(
        (path / mark).is_file() for mark in _ZARR_MARKS
    )


def _open_pictures(where: Path, files: list[Path], channel: int | str | None) -> Series:
    """Open one file per frame, in the natural order of their names."""
    files = sorted(files, key=_natural_order)
    if not files:
        raise SeriesError(
            f"{where}: no pictures; a folder needs files that end in "
            f"{', '.join(_SUFFIXES)}"
        )
    pixel_size_nm: float | None = None

    def read(index: int) -> NDArray[Any]:
        nonlocal pixel_size_nm
        file = files[index]
        if file.suffix.lower() not in _SUFFIXES:
            raise SeriesError(f"{file}: not a picture ({', '.join(_SUFFIXES)})")
        if file.suffix.lower() == ".png":
            return _read_png(file)
        with open_tiff(file, channel) as plane:
            if len(plane) != 1:
                raise SeriesError(
                    f"{file}: holds {len(plane)} planes, a folder needs one per file; "
                    "replay this file on its own"
                )
            pixel_size_nm = plane.pixel_size_nm
            return plane[0]

    first = read(0)
    return Series(
        path=where,
        length=len(files),
        shape=(first.shape[0], first.shape[1]),
        dtype=first.dtype,
        read=read,
        pixel_size_nm=pixel_size_nm,
    )


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Return a sorting key by which img2 comes before img10."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def _read_png(path: Path) -> NDArray[Any]:
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            pixels = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise SeriesError(f"{path}: not a readable PNG: {error}") from error
    if not (mode in ("L", "F") or mode.startswith("I")):
        raise SeriesError(
            f"{path}: a colour or 1-bit picture (mode {mode}); save it as greyscale"
        )
    # Pillow opens 16-bit PNGs of some writers as 32 bits.
    return pixels.astype(np.uint16) if mode == "I" else pixels
