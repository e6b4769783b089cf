"""What a session does with a measured blur: compares with it, and keeps a copy."""

from __future__ import annotations

import shutil
from pathlib import Path
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

__all__ = [
    "compared_modes",
    "keep_blur",
    "monitor_of",
    "why_not_followed",
    "with_kept_blur",
]

_UNFOLLOWED = "a fixed PSF is used: changes of the blur are not monitored"
_KEYS = ("calibration", "psf")
# For people to look at; a calibration is read without them.
_NOT_KEPT = ("report.html",)


def monitor_of(
    profile: Profile, family: BlurFamily, errors: ErrorModel
) -> ReferenceMonitor | UnfollowedBlur | None:
    """Return what follows the estimates; None for their change from a baseline."""
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


def keep_blur(profile: Profile, folder: Path) -> None:
    """Copy the calibration, or the PSF, that a session uses to its folder.

    Raises
    ------
    OSError
        It cannot be copied.
    """
    for key in _KEYS:
        path = getattr(profile.model, key)
        if path is None:
            continue
        source, target = Path(path), folder / Path(path).name
        if source.is_dir():
            ignored = shutil.ignore_patterns(*_NOT_KEPT)
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copy2(source, target)


def with_kept_blur(profile: Profile, folder: Path) -> Profile:
    """Return a session's profile with the copies in its folder, where they are."""
    kept = {
        key: str(folder / Path(path).name)
        for key in _KEYS
        if (path := getattr(profile.model, key)) is not None
        and (folder / Path(path).name).exists()
    }
    model = profile.model.model_copy(update=kept)
    return profile.model_copy(update={"model": model})
