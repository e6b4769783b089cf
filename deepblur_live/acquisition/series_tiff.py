"""TIFF, OME-TIFF and BigTIFF stacks, plane by plane."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from deepblur_live.acquisition.replay_planes import PlaneOrder
from deepblur_live.acquisition.replay_source import (
    ReplayError,
    ReplaySource,
    choose_channel,
)
from deepblur_live.acquisition.tiff_metadata import read_scales

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["TIFF_SUFFIXES", "open_tiff"]

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8")

# What tifffile logs, rather than raises, when a file ends too early.
_SIGNS_OF_DAMAGE = ("invalid page offset", "corrupted file", "invalid offset")


class _Complaints(logging.Handler):
    """Keeps what tifffile logs while a file is opened."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    @property
    def damage(self) -> str | None:
        """The first complaint that means a damaged file."""
        found = (t for t in self.texts if any(sign in t for sign in _SIGNS_OF_DAMAGE))
        return next(found, None)


@contextmanager
def _complaints() -> Iterator[_Complaints]:
    logger = logging.getLogger("tifffile")
    handler = _Complaints()
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


def open_tiff(path: Path, channel: int | str | None = None) -> ReplaySource:
    """Open the largest image of a TIFF file as a series of planes.

    Raises
    ------
    ReplayError
        It is not a TIFF, is truncated or empty, is in colour, is compressed in a way
        that cannot be decoded here, or has several channels and none was chosen.
    """
    tif: tifffile.TiffFile | None = None
    try:
        with _complaints() as complaints:
            tif = tifffile.TiffFile(path)
            # Where a page cannot be found there is none, or one without any extent.
            pictures = [one for one in tif.series if one.ndim >= 2]
            if not pictures:
                raise _damaged(path, complaints.damage or "no picture is found in it")
            series = max(pictures, key=lambda one: one.size)
            source = _series(path, tif, series, channel, complaints)
    except ReplayError:
        if tif is not None:
            tif.close()
        raise
    # A damaged file makes its reader raise whatever it stumbles over.
    except Exception as error:
        if tif is not None:
            tif.close()
        raise ReplayError(
            f"{path}: not a readable TIFF ({type(error).__name__}: {error}); "
            "is the file complete?"
        ) from error
    return source


def _series(
    path: Path,
    tif: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    channel: int | str | None,
    complaints: _Complaints,
) -> ReplaySource:
    axes, sizes = series.axes, tuple(int(size) for size in series.shape)
    scales = read_scales(tif)
    count = sizes[axes.index("C")] if "C" in axes else 1
    chosen = choose_channel(path, count, scales.channels, channel)
    order = PlaneOrder.of(path, axes, sizes, chosen)
    n_planes = int(np.prod(order.sizes, dtype=int))
    pages = series.pages

    if len(pages) == n_planes:

        def read(index: int) -> NDArray[Any]:
            page = pages[order.page(index)]
            if page is None:
                raise ReplayError(
                    f"{path}: frame {index} is missing; a series in several files "
                    "needs all of them in one folder"
                )
            return np.asarray(page.asarray())

        last = pages[-1]
        ends = (
            [
                offset + count
                for offset, count in zip(
                    last.dataoffsets, last.databytecounts, strict=True
                )
            ]
            if last is not None
            else []
        )
        end, size = max(ends, default=0), tif.filehandle.size
        inside = series.is_multifile or end <= size
    elif series.dataoffset is not None:
        # One page describes a block of planes, as ImageJ writes beyond 4 GB.
        stored = series.dtype.newbyteorder(tif.byteorder)
        plane_bytes = order.shape[0] * order.shape[1] * stored.itemsize
        start = series.dataoffset
        inside = start + n_planes * plane_bytes <= tif.filehandle.size

        def read(index: int) -> NDArray[Any]:
            offset = start + order.page(index) * plane_bytes
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(plane_bytes)
            return np.frombuffer(data, stored).reshape(order.shape).astype(series.dtype)
    else:
        raise ReplayError(
            f"{path}: {len(pages)} pages for {n_planes} planes ({axes}); save it as a "
            "stack of one page a plane"
        )

    damage = complaints.damage
    if damage is not None or not inside:
        raise _damaged(path, damage or "frames lie beyond its end")

    try:
        first = read(0)
    except Exception as error:
        if "imagecodecs" in str(error) or "COMPRESSION." in str(error):
            codec = tifffile.COMPRESSION(series.keyframe.compression).name
            raise ReplayError(
                f"{path}: compressed with {codec}, which cannot be decoded here; "
                "pip install imagecodecs, or save the series without compression"
            ) from error
        raise
    return ReplaySource(
        path=path,
        length=len(order),
        shape=order.shape,
        dtype=first.dtype,
        read=read,
        pixel_size_nm=scales.pixel_size_nm,
        interval_s=scales.interval_s,
        planes=order.planes,
        close=tif.close,
    )


def _damaged(path: Path, sign: str) -> ReplayError:
    return ReplayError(
        f"{path}: truncated or damaged ({sign}); copy it again from its source"
    )
