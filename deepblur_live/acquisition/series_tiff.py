"""TIFF, OME-TIFF and BigTIFF stacks, plane by plane through tifffile."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from deepblur_live.acquisition.series import Series, SeriesError, plane_order
from deepblur_live.acquisition.tiff_metadata import read_scales

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["TIFF_SUFFIXES", "open_tiff"]

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8")

# What tifffile logs, instead of raising, when a file ends too early.
_SIGNS_OF_DAMAGE = ("invalid page offset", "corrupted file", "invalid offset")


@contextmanager
def _signs_of_damage() -> Iterator[list[str]]:
    """Collect what tifffile logs about a damaged file."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if any(sign in text for sign in _SIGNS_OF_DAMAGE):
                found.append(text)

    logger, handler = logging.getLogger("tifffile"), Handler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def open_tiff(path: Path, channel: int | str | None = None) -> Series:
    """Open the largest image of a TIFF file as a series of planes.

    Raises
    ------
    SeriesError
        It is not a TIFF, is truncated or empty, is in colour, is compressed in a way
        that cannot be decoded here, or has several channels and none was chosen.
    """
    tif: tifffile.TiffFile | None = None
    try:
        with _signs_of_damage() as damage:
            tif = tifffile.TiffFile(path)
            # tifffile leaves out pages that it cannot find, or gives them no extent.
            images = [one for one in tif.series if one.ndim >= 2]
            if not images:
                damage.append("it contains no image")
                raise _damaged(path, damage)
            largest = max(images, key=lambda one: one.size)
            return _open_image(path, tif, largest, channel, damage)
    except Exception as error:
        if tif is not None:
            tif.close()
        if isinstance(error, SeriesError):
            raise
        # tifffile raises all kinds of errors on a damaged file.
        raise SeriesError(
            f"{path}: not a readable TIFF ({type(error).__name__}: {error}); "
            "is the file complete?"
        ) from error


def _open_image(
    path: Path,
    tif: tifffile.TiffFile,
    image: tifffile.TiffPageSeries,
    channel: int | str | None,
    damage: list[str],
) -> Series:
    scales = read_scales(tif)
    order = plane_order(path, image.axes, image.shape, scales.channels, channel)
    pages, n_planes = image.pages, int(np.prod(order.leading, dtype=int))

    if len(pages) == n_planes:

        def read(index: int) -> NDArray[Any]:
            page = pages[order.numbers[index]]
            if page is None:
                raise SeriesError(
                    f"{path}: frame {index} is missing; a series in several files "
                    "needs all of them in one folder"
                )
            return np.asarray(page.asarray())

        last = pages[-1]
        counts = (
            ()
            if last is None
            else zip(last.dataoffsets, last.databytecounts, strict=True)
        )
        end = 0 if image.is_multifile else max(map(sum, counts), default=0)
    elif image.dataoffset is not None:
        # One page describes a block of planes, as ImageJ writes beyond 4 GB.
        stored = image.dtype.newbyteorder(tif.byteorder)
        start, plane_bytes = (
            image.dataoffset,
            stored.itemsize * int(np.prod(order.shape)),
        )
        end = start + n_planes * plane_bytes

        def read(index: int) -> NDArray[Any]:
            offset = start + int(order.numbers[index]) * plane_bytes
            plane = np.memmap(path, stored, "r", offset, order.shape)
            return np.array(plane, image.dtype)
    else:
        raise SeriesError(
            f"{path}: {len(pages)} pages for {n_planes} planes ({image.axes}); save it "
            "as a stack with one page per plane"
        )

    if end > tif.filehandle.size:
        damage.append("frames lie beyond its end")
    if damage:
        raise _damaged(path, damage)
    try:
        first = read(0)
    except Exception as error:
        if "imagecodecs" in str(error) or "COMPRESSION." in str(error):
            codec = tifffile.COMPRESSION(image.keyframe.compression).name
            raise SeriesError(
                f"{path}: compressed with {codec}, which cannot be decoded here; "
                "pip install imagecodecs, or save the series without compression"
            ) from error
        raise
    return Series(
        path=path,
        length=len(order.numbers),
        shape=order.shape,
        dtype=first.dtype,
        read=read,
        pixel_size_nm=scales.pixel_size_nm,
        interval_s=scales.interval_s,
        planes=order.focal_planes,
        z_step_um=scales.z_step_um,
        optics=scales.optics(order.channel),
        channel=order.name,
        binning=scales.binnings[order.channel]
        if order.channel < len(scales.binnings)
        else None,
        close=tif.close,
    )


def _damaged(path: Path, signs: list[str]) -> SeriesError:
    return SeriesError(
        f"{path}: truncated or damaged ({signs[0]}); copy it again from its source"
    )
