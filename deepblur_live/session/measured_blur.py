"""Compare the estimates of a session with a measured blur."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur.calibrated import CalibratedZernikeFamily
from deepblur_live.blur.fixed_psf import FixedPsf
from deepblur_live.drift import DriftState, ReferenceMonitor, UnfollowedBlur

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily, ErrorModel
    from deepblur_live.drift import DriftStatus
    from deepblur_live.profile import Profile

__all__ = ["compared_modes", "monitor_of", "why_not_followed"]

_UNFOLLOWED = "a fixed PSF is used: changes of the blur are not monitored"


def monitor_of(
    profile: Profile, family: BlurFamily, errors: ErrorModel
) -> ReferenceMonitor | UnfollowedBlur | None:
    """Return the monitor for a measured blur; None for changes from a baseline."""
    if isinstance(family, FixedPsf):
        return UnfollowedBlur(_UNFOLLOWED)
    if profile.drift.reference == "session":
        return None
    if not isinstance(family, CalibratedZernikeFamily):
        raise ValueError('drift.reference = "calibration" needs a calibrated family')
    reference = np.zeros(family.n_coefficients)
    return ReferenceMonitor(
        family, profile.drift, errors, reference, compared_modes(family)
    )


def why_not_followed(status: DriftStatus) -> str:
    """Return why changes of the blur are not monitored; empty if they are."""
    return status.reason if status.state is DriftState.NOT_FOLLOWED else ""


def compared_modes(family: CalibratedZernikeFamily) -> NDArray[np.bool_]:
    """Return which coefficients (P,) a calibration determines: not the wide ones."""
    return np.arange(family.n_coefficients) >= len(family.learned.wide)
