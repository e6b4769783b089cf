"""PSF stacks as OME-TIFF, with the pixel size and the distance of planes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from deepblur_live.calibration.measures import point_images
from deepblur_live.calibration.registered import MeanBead

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from deepblur_live.calibration.calibrate import Calibration

__all__ = ["calibrated_psf", "write_mean_bead", "write_psf"]

# Planes whose distances differ by more than this share are uneven.
_UNEVEN = 0.01


def calibrated_psf(calibration: Calibration) -> NDArray[np.float64]:
    """Return the PSF (Z, K, K) in the middle of the field, in order of rising z.

    Its planes are evenly spaced: where one of the stack was left out, the pupil is
    computed there, and the residual is interpolated between its neighbours.

    The pupil with the mean coefficients, the shared Gaussian, and the mean residual of
    the beads: without the beads' size, except for that of the residual. Not negative;
    the plane in focus has sum 1.
    """
    own, residual = calibration.model.z_um, calibration.residual.numpy()
    z_um = _even(own)
    model = replace(calibration.model, z_um=tuple(z_um.tolist()))
    pupil = point_images(model, calibration.trend.terms[0], calibration.blur)
    whole = (pupil + _between(_rising(residual, own), np.sort(own), z_um)).clip(0)
    focus = int(np.argmin(np.abs(z_um)))
    psf: NDArray[np.float64] = whole / whole[focus].sum()
    return psf


def write_psf(calibration: Calibration, path: Path) -> None:
    """Write `calibrated_psf`: planes, rows, columns."""
    _write(path, calibrated_psf(calibration), "ZYX", calibration)


def write_mean_bead(calibration: Calibration, path: Path) -> None:
    """Write the registered mean of the beads and its deviation, as two channels.

    In the planes of `calibrated_psf`, interpolated where one was left out.
    """
    own = calibration.model.z_um
    parts = (_rising(part, own) for part in calibration.mean)
    pair = MeanBead(*(_between(part, np.sort(own), _even(own)) for part in parts))
    _write(path, np.stack(pair), "CZYX", calibration)


def _rising(stack: NDArray[np.float64], z_um: tuple[float, ...]) -> NDArray[np.float64]:
    return stack if z_um[-1] > z_um[0] else stack[::-1]


def _even(z_um: tuple[float, ...]) -> NDArray[np.float64]:
    """Return rising, evenly spaced positions that span those of a stack, µm."""
    rising = np.sort(z_um)
    steps, span = np.diff(rising), float(np.ptp(rising))
    if np.ptp(steps) <= _UNEVEN * steps.mean():
        return rising
    count = round(span / float(np.median(steps))) + 1
    return np.linspace(rising[0], rising[-1], count)


def _between(
    stack: NDArray[np.float64], z_um: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a stack (Z, K, K) at other positions, by linear interpolation."""
    upper = np.clip(np.searchsorted(z_um, wanted), 1, len(z_um) - 1)
    low, high = z_um[upper - 1], z_um[upper]
    share = ((wanted - low) / (high - low))[:, None, None]
    result: NDArray[np.float64] = (1 - share) * stack[upper - 1] + share * stack[upper]
    return result


def _write(
    path: Path, stack: NDArray[np.float64], axes: str, calibration: Calibration
) -> None:
    step_um = float(np.diff(_even(calibration.model.z_um)).mean())
    pixel_nm = calibration.model.optics.pixel_size_nm
    metadata = {
        "axes": axes,
        "PhysicalSizeX": pixel_nm / 1000,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_nm / 1000,
        "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": round(step_um, 6),
        "PhysicalSizeZUnit": "µm",
    }
    if axes[0] == "C":
        metadata["Channel"] = {"Name": ["mean of beads", "standard deviation"]}
    # Programs that do not read OME find the pixel size in the resolution.
    tifffile.imwrite(
        path,
        stack.astype(np.float32),
        ome=True,
        photometric="minisblack",
        metadata=metadata,
        resolution=(1e7 / pixel_nm, 1e7 / pixel_nm),
        resolutionunit="CENTIMETER",
    )
