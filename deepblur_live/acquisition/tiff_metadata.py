"""Metadata of a TIFF: pixel size, interval, channel names (OME, ImageJ)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from deepblur_live.acquisition.series import RecordedOptics, parse_binning

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TiffScales", "read_scales"]

_NANOMETRES = {
    "pm": 1e-3,
    "nm": 1.0,
    "micron": 1e3,
    "um": 1e3,
    "µm": 1e3,  # micro sign
    "\u03bcm": 1e3,  # Greek mu
    "\\u00b5m": 1e3,  # as ImageJ writes it
    "mm": 1e6,
    "cm": 1e7,
    "m": 1e9,
}
_SECONDS = {"µs": 1e-6, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0}

_ONE = {"": 1.0}

# The tag with Micro-Manager's metadata of a plane.
_MICRO_MANAGER = 51123

# Screens and scanners write 72 to 1200 dpi, which is not a size in the specimen.
_COARSEST_NM = 20_000.0


@dataclass(frozen=True)
class TiffScales:
    """Sizes, names of the channels and optics; None where they are unknown.

    Parameters
    ----------
    pixel_size_nm, interval_s, z_step_um
        Size of a pixel, time between frames, distance of focal planes.
    channels
        Names of the channels.
    numerical_aperture, refractive_index
        NA of the objective, and index of its immersion.
    wavelengths_nm
        Emission of each channel.
    binnings
        Binning of the camera, in each channel.
    """

    pixel_size_nm: float | None = None
    interval_s: float | None = None
    channels: tuple[str, ...] = ()
    z_step_um: float | None = None
    numerical_aperture: float | None = None
    refractive_index: float | None = None
    wavelengths_nm: tuple[float | None, ...] = ()
    binnings: tuple[int | None, ...] = ()

    def optics(self, channel: int) -> RecordedOptics:
        """Return what is recorded of the microscope for a channel."""
        known = channel < len(self.wavelengths_nm)
        return RecordedOptics(
            self.numerical_aperture,
            self.refractive_index,
            self.wavelengths_nm[channel] if known else None,
        )


def _quantity(value: Any, unit: Any, units: Mapping[str, float]) -> float | None:
    """Return a positive quantity in the base unit, or None."""
    factor = units.get(str(unit).strip().lower())
    try:
        number = float(value) * (math.nan if factor is None else factor)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _ome(xml: str) -> TiffScales:
    root = tifffile.xml2dict(xml)["OME"]
    image = _listed(root["Image"])[0]
    pixels = image["Pixels"]
    channels = _listed(pixels.get("Channel"))
    z_step = _quantity(
        pixels.get("PhysicalSizeZ"), pixels.get("PhysicalSizeZUnit", "µm"), _NANOMETRES
    )
    interval = _quantity(
        pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"), _SECONDS
    )
    if interval is None:
        planes = _listed(pixels.get("Plane"))
        times = {
            int(plane["TheT"]): _quantity(
                plane["DeltaT"], plane.get("DeltaTUnit", "s"), _SECONDS
            )
            for plane in reversed(planes)
            if "DeltaT" in plane and "TheT" in plane
        }
        # A first frame at time zero is not a positive quantity; the others suffice.
        known = [times[t] for t in sorted(times) if times[t] is not None]
        if len(known) > 1:
            interval = float(np.median(np.diff(np.array(known, dtype=float))))
    return TiffScales(
        pixel_size_nm=_quantity(
            pixels.get("PhysicalSizeX"),
            pixels.get("PhysicalSizeXUnit", "µm"),
            _NANOMETRES,
        ),
        interval_s=interval if interval is not None and interval > 0 else None,
        channels=tuple(str(channel.get("Name", "")) for channel in channels),
        z_step_um=None if z_step is None else z_step / 1000,
        numerical_aperture=_quantity(_objective(root, image).get("LensNA"), "", _ONE),
        refractive_index=_quantity(
            image.get("ObjectiveSettings", {}).get("RefractiveIndex"), "", _ONE
        ),
        wavelengths_nm=tuple(
            _quantity(
                channel.get("EmissionWavelength"),
                channel.get("EmissionWavelengthUnit", "nm"),
                _NANOMETRES,
            )
            for channel in channels
        ),
        binnings=tuple(
            parse_binning(channel.get("DetectorSettings", {}).get("Binning"))
            or _kept_binning(root)
            for channel in channels or [{}]
        ),
    )


def _kept_binning(root: Mapping[str, Any]) -> int | None:
    """Return the binning that a session of this program wrote with its frames."""
    for notes in _listed(root.get("StructuredAnnotations", {}).get("MapAnnotation")):
        if notes.get("Namespace") == "deepblur-live":
            for pair in _listed(notes["Value"]["M"]):
                if pair["K"] == "binning":
                    return parse_binning(pair["value"])
    return None


def _objective(root: Mapping[str, Any], image: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the objective that an image names; empty if it names none."""
    wanted = image.get("ObjectiveSettings", {}).get("ID")
    for instrument in _listed(root.get("Instrument")):
        for objective in _listed(instrument.get("Objective")):
            if wanted is not None and objective.get("ID") == wanted:
                found: Mapping[str, Any] = objective
                return found
    return {}


def _per_unit(page: tifffile.TiffPage) -> float | None:
    """Return the pixels per unit of length of the resolution tag."""
    tag = page.tags.get("XResolution")
    if tag is None or not tag.value[0] or not tag.value[1]:
        return None
    return float(tag.value[0] / tag.value[1])


def _imagej(page: tifffile.TiffPage, metadata: Mapping[str, Any]) -> TiffScales:
    per_unit = _per_unit(page)
    size = 1 / per_unit if per_unit else None
    # Labels name slices: they name channels only if each slice is a channel.
    labels = tuple(str(label) for label in _listed(metadata.get("Labels")))
    z_step = _quantity(metadata.get("spacing"), metadata.get("unit"), _NANOMETRES)
    return TiffScales(
        pixel_size_nm=_quantity(size, metadata.get("unit"), _NANOMETRES),
        z_step_um=None if z_step is None else z_step / 1000,
        interval_s=_quantity(
            metadata.get("finterval"), metadata.get("tunit", "s"), _SECONDS
        ),
        channels=labels if len(labels) == metadata.get("channels", 1) else (),
    )


def _plain(page: tifffile.TiffPage) -> TiffScales:
    per_unit = _per_unit(page)
    unit = page.tags.get("ResolutionUnit")
    if per_unit is None or unit is None or unit.value != tifffile.RESUNIT.CENTIMETER:
        return TiffScales()
    size = 1e7 / per_unit
    return TiffScales(pixel_size_nm=size if size < _COARSEST_NM else None)


def read_scales(tif: tifffile.TiffFile) -> TiffScales:
    """Read pixel size, interval and channel names; broken metadata are ignored."""
    page = tif.pages.first
    try:
        if tif.is_ome and tif.ome_metadata:
            scales = _ome(tif.ome_metadata)
            if tif.is_micromanager and not any(scales.binnings):
                kept = parse_binning(page.tags[_MICRO_MANAGER].value.get("Binning"))
                scales = replace(scales, binnings=(kept,) * len(scales.binnings))
            return scales
        if tif.is_imagej and tif.imagej_metadata:
            return _imagej(page, tif.imagej_metadata)
        return _plain(page)
    # Broken metadata raise all kinds of errors; the images are still good.
    except Exception:
        return TiffScales()
