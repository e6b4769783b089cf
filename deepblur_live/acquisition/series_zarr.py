"""OME-Zarr recordings (0.4 and 0.5), level 0, plane by plane through tensorstore."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError
from yaozarrs import ZarrGroup, open_group

from deepblur_live.acquisition.series import (
    Series,
    SeriesError,
    parse_binning,
    plane_order,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["open_zarr"]

_NANOMETRES = {
    "angstrom": 0.1,
    "nanometer": 1.0,
    "micrometer": 1e3,
    "millimeter": 1e6,
    "meter": 1e9,
}
_SECONDS = {
    "microsecond": 1e-6,
    "millisecond": 1e-3,
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
}


def _open_image(path: Path) -> tuple[ZarrGroup, Any]:
    """Return the group of one image and its OME metadata."""
    try:
        group = open_group(path)
        metadata = group.ome_metadata()
        # bioformats2raw and similar programs put the images into numbered groups.
        if not hasattr(metadata, "multiscales") and "0" in group:
            inner = group["0"]
            if isinstance(inner, ZarrGroup):
                group, metadata = inner, inner.ome_metadata()
    # Broken metadata raise all kinds of errors.
    except Exception as error:
        raise SeriesError(
            _damaged_json(path)
            or f"{path}: not a readable OME-Zarr (0.4 or 0.5): {_first_lines(error)}"
        ) from error
    if not getattr(metadata, "multiscales", None):
        raise SeriesError(
            f"{path}: a Zarr store without an image (multiscales); give the folder of "
            "one image, e.g. PLATE.zarr/A/1/0"
        )
    return group, metadata


def _damaged_json(folder: Path) -> str:
    """Return which metadata file is not valid JSON, and where; empty if none is."""
    for name in ("zarr.json", ".zattrs", ".zgroup", ".zarray", "0/zarr.json"):
        try:
            json.loads((folder / name).read_bytes())
        except FileNotFoundError:
            continue
        except ValueError as error:
            return (
                f"{folder / name}: damaged or cut off: {error}; copy it again from its "
                "source"
            )
        except OSError as error:
            return f"{folder / name}: cannot be read: {error.strerror}"
    return ""


def _first_lines(error: Exception) -> str:
    """Return a reader's error in one line."""
    if isinstance(error, ValidationError):
        return "its metadata do not describe an image (multiscales)"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__


def _step(multiscale: Any, name: str, units: dict[str, float]) -> float | None:
    """Return the step along an axis of level 0 in the base unit, if it is known."""
    names = [axis.name for axis in multiscale.axes]
    if name not in names:
        return None
    unit = getattr(multiscale.axes[names.index(name)], "unit", None)
    factor = units.get(str(unit)) if unit is not None else None
    if factor is None:
        return None
    steps = [
        transform.scale[names.index(name)]
        for part in (multiscale.datasets[0], multiscale)
        for transform in part.coordinateTransformations or ()
        if transform.type == "scale"
    ]
    step = math.prod(steps) * factor
    return float(step) if steps and math.isfinite(step) and step > 0 else None


def open_zarr(path: Path, channel: int | str | None = None) -> Series:
    """Open level 0 of an OME-Zarr image as a series of planes.

    Raises
    ------
    SeriesError
        It is not an OME-Zarr image, or its array cannot be opened, is empty, or has
        several channels and none was chosen.
    """
    group, metadata = _open_image(path)
    multiscale = metadata.multiscales[0]
    level = multiscale.datasets[0].path
    try:
        array = group[level].to_tensorstore()  # type: ignore[union-attr]
    except Exception as error:
        raise SeriesError(
            _damaged_json(path / level)
            or f"{path}: level 0 ({level}) cannot be opened: {_first_lines(error)}"
        ) from error

    axes = "".join(axis.name.upper()[:1] for axis in multiscale.axes)
    omero = getattr(metadata, "omero", None)
    names = [str(c.label or "") for c in omero.channels] if omero else []
    order = plane_order(path, axes, array.shape, names, channel)
    moves = "T" in axes and array.shape[axes.index("T")] > 1

    def read(index: int) -> NDArray[Any]:
        return np.asarray(array[order.position(index)].read().result())

    z_step_nm = _step(multiscale, "z", _NANOMETRES)
    return Series(
        path=path,
        length=len(order.numbers),
        shape=order.shape,
        dtype=np.dtype(array.dtype.numpy_dtype),
        read=read,
        pixel_size_nm=_step(multiscale, "x", _NANOMETRES),
        interval_s=_step(multiscale, "t", _SECONDS) if moves else None,
        planes=order.focal_planes,
        z_step_um=None if z_step_nm is None else z_step_nm / 1000,
        channel=order.name,
        # Written by sessions of this program.
        binning=parse_binning(group.attrs.get("deepblur_live", {}).get("binning")),
    )
