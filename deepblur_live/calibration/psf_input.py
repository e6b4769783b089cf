"""Read a PSF file: the plane in focus, as a fixed blur for a profile's pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from deepblur_live.blur.fixed_psf import FixedPsf
from deepblur_live.calibration.stack import CalibrationError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.profile import Optics

__all__ = ["read_psf"]

# Pixel sizes that differ by more than this share are not the same.
_SAME_PIXEL = 0.005
# Half of the side of the largest PSF that is used, pixels; as for Zernike families.
_LARGEST_HALF = 31
# Farthest that the peak may lie from the middle, over λ/NA; coma moves it.
_OFF_CENTRE = 2.0
_NM = {"m": 1e9, "mm": 1e6, "µm": 1e3, "μm": 1e3, "um": 1e3, "nm": 1.0}
_CENTIMETRE_NM, _CENTIMETRES = 1e7, 3


def read_psf(path: Path, optics: Optics) -> FixedPsf:
    """Return the PSF in a file as a family without coefficients.

    From a stack, the plane with the highest peak is taken. An even number of pixels has
    its middle at N // 2. Of a PSF wider than 63 pixels the middle is used.

    Parameters
    ----------
    path
        A TIFF of planes, rows and columns or of one plane: as ``calibrate --single``
        writes it, or with a pixel size in its OME metadata or its resolution.
    optics
        The profile's; its pixel size must be the file's.

    Raises
    ------
    CalibrationError
        The file cannot be read, is no PSF, or does not state its pixel size or has
        another; the text names the file, and both numbers.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            stack = np.squeeze(tiff.asarray()).astype(np.float64)
            pixel_nm = _pixel_size_nm(tiff)
    except (OSError, tifffile.TiffFileError, ValueError, KeyError) as error:
        raise CalibrationError(f"{path}: cannot be read as a TIFF: {error}") from error
    own = optics.pixel_size_nm
    if pixel_nm is None:
        raise CalibrationError(
            f"{path}: does not state its pixel size: save it as OME-TIFF with "
            "PhysicalSizeX and PhysicalSizeY"
        )
    for size in pixel_nm:
        if abs(size / own - 1) > _SAME_PIXEL:
            raise CalibrationError(
                f"{path}: has pixels of {size:g} nm, but the profile has "
                f"optics.pixel_size_nm = {own:g}: measure the PSF with this camera, or "
                "correct the profile"
            )
    cutoff = optics.numerical_aperture * own / optics.wavelength_nm
    plane, number, count = _in_focus(path, stack)
    origin = f"{path.name}, plane {number + 1} of {count}"
    return FixedPsf(_middle(path, plane, _OFF_CENTRE / cutoff), cutoff, origin)


def _pixel_size_nm(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    """Return width and height of a pixel, from OME or from the resolution in cm."""
    if tiff.ome_metadata:
        content: Any = tifffile.xml2dict(tiff.ome_metadata)
        image = content["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
        sizes = [
            float(pixels[f"PhysicalSize{axis}"])
            * _NM[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "XY"
            if f"PhysicalSize{axis}" in pixels
        ]
        return (sizes[0], sizes[1]) if len(sizes) == 2 else None
    tags = tiff.pages.first.tags
    unit = tags.get("ResolutionUnit")
    if unit is None or int(unit.value) != _CENTIMETRES:
        return None
    per_cm = [tags[f"{axis}Resolution"].value for axis in "XY"]
    return tuple(_CENTIMETRE_NM * below / above for above, below in per_cm)


def _in_focus(
    path: Path, stack: NDArray[np.float64]
) -> tuple[NDArray[np.float64], int, int]:
    """Return the plane (H, W) with the highest peak, its number and their count."""
    if stack.ndim not in (2, 3) or min(stack.shape[-2:]) < 3:
        raise CalibrationError(
            f"{path}: has the shape {stack.shape}: a PSF has planes, rows and columns"
        )
    planes = stack[None] if stack.ndim == 2 else stack
    if not np.isfinite(planes).all() or not planes.max() > 0:
        raise CalibrationError(f"{path}: contains NaN or infinite values, or no light")
    number = int(planes.max((1, 2)).argmax())
    return planes[number], number, len(planes)


def _middle(
    path: Path, plane: NDArray[np.float64], farthest: float
) -> NDArray[np.float64]:
    """Return the middle (K, K) of a plane, K odd, not negative and of sum 1."""
    middle = np.array(plane.shape) // 2
    peak = np.array(np.unravel_index(int(plane.argmax()), plane.shape))
    if np.hypot(*(peak - middle)) > farthest:
        raise CalibrationError(
            f"{path}: the PSF is not in the middle: its peak is at row {peak[0]}, "
            f"column {peak[1]}, the middle at {middle[0]}, {middle[1]}: cut it out "
            "around its peak"
        )
    half = min(_LARGEST_HALF, *middle, *(np.array(plane.shape) - 1 - middle))
    row, column = middle
    light = plane[row - half : row + half + 1, column - half : column + half + 1]
    light = light.clip(0)
    psf: NDArray[np.float64] = light / light.sum()
    return psf
