"""From a slide of beads to the microscope's blur."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.lazy import lazy_names

if TYPE_CHECKING:
    from deepblur_live.calibration.calibrate import (
        CalibratedBead,
        Calibration,
        calibrate_stack,
    )
    from deepblur_live.calibration.detect import BeadState, FoundBead
    from deepblur_live.calibration.folder import (
        SavedCalibration,
        Source,
        load_calibration,
        save_calibration,
    )
    from deepblur_live.calibration.manifest import CalibrationManifest
    from deepblur_live.calibration.psf_file import (
        calibrated_psf,
        write_mean_bead,
        write_psf,
    )
    from deepblur_live.calibration.stack import CalibrationError

__all__ = [
    "BeadState",
    "CalibratedBead",
    "Calibration",
    "CalibrationError",
    "CalibrationManifest",
    "FoundBead",
    "SavedCalibration",
    "Source",
    "calibrate_stack",
    "calibrated_psf",
    "load_calibration",
    "save_calibration",
    "write_mean_bead",
    "write_psf",
]

__getattr__ = lazy_names(
    __name__,
    {
        "BeadState": "detect",
        "CalibratedBead": "calibrate",
        "Calibration": "calibrate",
        "CalibrationError": "stack",
        "CalibrationManifest": "manifest",
        "FoundBead": "detect",
        "SavedCalibration": "folder",
        "Source": "folder",
        "calibrate_stack": "calibrate",
        "calibrated_psf": "psf_file",
        "load_calibration": "folder",
        "save_calibration": "folder",
        "write_mean_bead": "psf_file",
        "write_psf": "psf_file",
    },
)
