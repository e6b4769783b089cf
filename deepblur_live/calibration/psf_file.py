"""PSF stacks as OME-TIFF, with the pixel size and the distance of planes."""

from __future__ import annotations

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


def calibrated_psf(calibration: Calibration) -> NDArray[np.float64]:
    """Return the PSF (Z, K, K) in the middle of the field, in order of rising z.

    The pupil with the mean coefficients, the shared Gaussian, and the mean residual of
    the beads: without the beads' size, except for that of the residual. Not negative;
    the plane in focus has sum 1.
    """
    model = calibration.model
    pupil = point_images(model, calibration.trend.terms[0], calibration.blur)
    whole = (pupil + calibration.residual.numpy()).clip(0)
    focus = int(np.argmin(np.abs(model.z_um)))
    return _rising(whole / whole[focus].sum(), model.z_um)


def write_psf(calibration: Calibration, path: Path) -> None:
    """Write `calibrated_psf`: planes, rows, columns."""
    _write(path, calibrated_psf(calibration), "ZYX", calibration)


def write_mean_bead(calibration: Calibration, path: Path) -> None:
    """Write the registered mean of the beads and its deviation, as two channels."""
    mean = calibration.mean
    pair = MeanBead(*(_rising(part, calibration.model.z_um) for part in mean))
    _write(path, np.stack(pair), "CZYX", calibration)


def _rising(stack: NDArray[np.float64], z_um: tuple[float, ...]) -> NDArray[np.float64]:
    return stack if z_um[-1] > z_um[0] else stack[::-1]


def _write(
    path: Path, stack: NDArray[np.float64], axes: str, calibration: Calibration
) -> None:
    z_um = calibration.model.z_um
    pixel_nm = calibration.model.optics.pixel_size_nm
    metadata = {
        "axes": axes,
        "PhysicalSizeX": pixel_nm / 1000,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_nm / 1000,
        "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": abs(z_um[1] - z_um[0]),
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
