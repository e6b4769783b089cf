"""The part of the sensor that a frame shows, if it can be identified as a field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepblur_live.blur.field_basis import FieldView
from deepblur_live.identification.field.identifier import LEAST_SIDE

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["frame_view"]


def frame_view(
    shape: tuple[int, ...],
    metadata: Mapping[str, Any],
    sensor: tuple[int, int] | None = None,
    least_side: int = LEAST_SIDE,
) -> FieldView | str:
    """Return the part of the sensor that a frame shows, or why one PSF must be used.

    Parameters
    ----------
    shape
        (H, W) of the frame.
    metadata
        Metadata of the frame, as a core's frames have it: ``"region"`` (top, left,
        height, width; None if it could not be read) and ``"sensor"`` (rows, columns) in
        unbinned pixels, ``"binning"``, and ``"binning_before"`` if that has changed.
        Without a region the frame is the whole sensor if its size with the binning is
        that of the sensor, or if the sensor's is unknown; else its place is unknown.
    sensor
        Rows and columns of the sensor, by the profile; None if unknown.
    least_side
        Least side of a frame for a field, in its own pixels.
    """
    if min(shape) < least_side:
        return (
            f"the frame has {shape[0]} × {shape[1]} pixels, but a field needs at least "
            f"{least_side} on each side"
        )
    if before := metadata.get("binning_before"):
        return (
            f"the camera's binning has changed from {before} to {metadata['binning']}, "
            "so that the profile's pixel size does not apply"
        )
    sensor = sensor or metadata.get("sensor")
    region = metadata.get("region")
    if region is None and "region" in metadata:
        return "the camera's region of interest could not be read"
    if region is None:
        binning = metadata.get("binning", 1)
        if sensor is None:
            return FieldView(binning * shape[0], binning * shape[1])
        rows, columns = sensor
        if shape == (rows // binning, columns // binning):
            return FieldView(rows, columns)
        return (
            f"the place of a frame of {shape[0]} × {shape[1]} pixels on the sensor of "
            f"{rows} × {columns} is unknown"
        )
    if sensor is None:
        return (
            "it is a region of interest of a sensor of unknown size: give sensor_rows "
            "and sensor_columns under [camera] in the profile"
        )
    (rows, columns), (top, left, height, width) = sensor, region
    try:
        return FieldView(rows, columns, top, left, height, width)
    except ValueError as error:
        return str(error)
