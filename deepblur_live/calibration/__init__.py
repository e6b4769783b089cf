"""From a slide of beads to the microscope's blur."""

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
