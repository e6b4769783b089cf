"""OME-Zarr recordings (0.4 and 0.5), level 0, plane by plane through tensorstore."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from yaozarrs import ZarrGroup, open_group

from deepblur_live.acquisition.replay_planes import PlaneOrder
from deepblur_live.acquisition.replay_source import (
    ReplayError,
    ReplaySource,
    choose_channel,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["is_zarr", "open_zarr"]

_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
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


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr store."""
    return path.suffix.lower() == ".zarr" or any((path / m).is_file() for m in _MARKS)


def _open_image(path: Path) -> tuple[ZarrGroup, Any]:
    """Return the group of one image and its OME metadata."""
    try:
        group = open_group(path)
        metadata = group.ome_metadata()
        # bioformats2raw and its kin put the images into numbered groups.
        if not hasattr(metadata, "multiscales") and "0" in group:
            inner = group["0"]
            if isinstance(inner, ZarrGroup):
                group, metadata = inner, inner.ome_metadata()
    # Broken metadata fail in as many ways as there are fields.
    except Exception as error:
        raise ReplayError(
            f"{path}: not a readable OME-Zarr (0.4 or 0.5): "
            f"{type(error).__name__}: {error}"
        ) from error
    if not getattr(metadata, "multiscales", None):
        raise ReplayError(
            f"{path}: a Zarr store without an image (multiscales); give the folder of "
            "one image, e.g. PLATE.zarr/A/1/0"
        )
    return group, metadata


def _step(multiscale: Any, name: str, units: dict[str, float]) -> float | None:
    """Return the step along an axis of level 0 in the base unit, if it is told."""
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


def open_zarr(path: Path, channel: int | str | None = None) -> ReplaySource:
    """Open level 0 of an OME-Zarr image as a series of planes.

    Raises
    ------
    ReplayError
        It is not an OME-Zarr image, or its array cannot be opened, is empty, or has
        several channels and none was chosen.
    """
    group, metadata = _open_image(path)
    multiscale = metadata.multiscales[0]
    level = multiscale.datasets[0].path
    try:
        array = group[level].to_tensorstore()  # type: ignore[union-attr]
    except Exception as error:
        raise ReplayError(
            f"{path}: level 0 ({level}) cannot be opened: "
            f"{type(error).__name__}: {error}"
        ) from error

    axes = "".join(axis.name.upper()[:1] for axis in multiscale.axes)
    omero = getattr(metadata, "omero", None)
    names = [str(c.label or "") for c in omero.channels] if omero else []
    sizes = tuple(int(size) for size in array.shape)
    chosen = choose_channel(
        path, sizes[axes.index("C")] if "C" in axes else 1, names, channel
    )
    order = PlaneOrder.of(path, axes, sizes, chosen)

    def read(index: int) -> NDArray[Any]:
        return np.asarray(array[order.position(index)].read().result())

    return ReplaySource(
        path=path,
        length=len(order),
        shape=order.shape,
        dtype=np.dtype(array.dtype.numpy_dtype),
        read=read,
        pixel_size_nm=_step(multiscale, "x", _NANOMETRES),
        interval_s=_step(multiscale, "t", _SECONDS) if "T" in order.running else None,
        planes=order.planes,
    )
