"""Recordings: TIFF and OME-TIFF stacks, OME-Zarr, folders of single pictures."""

from __future__ import annotations

import glob
from pathlib import Path

from deepblur_live.acquisition.replay_folder import PICTURE_SUFFIXES, open_pictures
from deepblur_live.acquisition.replay_source import ReplayError, ReplaySource
from deepblur_live.acquisition.replay_tiff import TIFF_SUFFIXES, open_tiff
from deepblur_live.acquisition.replay_zarr import is_zarr, open_zarr

__all__ = ["ReplayError", "ReplaySource", "open_replay"]

_KINDS = (
    "a TIFF or OME-TIFF stack (.tif, .tiff, .btf), an OME-Zarr folder, a folder or "
    "pattern of single TIFF or PNG pictures"
)


def open_replay(path: Path | str, *, channel: int | str | None = None) -> ReplaySource:
    """Open a recorded series; frames are read one at a time, when asked for.

    Parameters
    ----------
    path
        A TIFF or OME-TIFF stack, an OME-Zarr (0.4, 0.5; level 0), a folder of
        single-plane TIFF or PNG pictures, or a pattern of such (``"run1/*.tif"``);
        pictures are taken in natural order (2 before 10).
    channel
        Number or name of the channel, needed where there are several.

    Raises
    ------
    ReplayError
        There is no such file, it cannot be read, is truncated, empty, in colour, or
        not a series of planes; the text names the file and what would be right.
    """
    text = str(path)
    path = Path(path)
    if path.is_dir():
        if is_zarr(path):
            return open_zarr(path, channel)
        pictures = [p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES]
        return open_pictures(path, pictures, channel)
    if path.is_file():
        if path.suffix.lower() in TIFF_SUFFIXES:
            return open_tiff(path, channel)
        if path.suffix.lower() in PICTURE_SUFFIXES:
            return open_pictures(path, [path], channel)
        raise ReplayError(
            f"{path}: not a kind of recording that is known; give {_KINDS}"
        )
    if glob.has_magic(text):
        return open_pictures(path, [Path(found) for found in glob.glob(text)], channel)
    raise ReplayError(f"{path}: no such file or folder; give {_KINDS}")
