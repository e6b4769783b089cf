"""Write a profile that uses a new calibration, after checking that it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.calibration.rig import rig_family
from deepblur_live.profile import check_profile, write_profile

if TYPE_CHECKING:
    from pathlib import Path

    from deepblur_live.profile import Profile

__all__ = ["use_calibration"]


def use_calibration(rig: Profile, calibration: Path, path: Path) -> str:
    """Write a profile that uses a calibration; return notes on it, or empty.

    Settings that contradict a calibration, a fixed PSF and another Gaussian, are left
    out. ``model.bead_diameter_nm`` is kept, as sessions with this profile may show
    beads.

    Parameters
    ----------
    rig
        The profile with which the beads were calibrated.
    calibration
        Folder of the calibration; the profile states it relative to its own folder if
        it is inside that.
    path
        The file to write.

    Raises
    ------
    ProfileError
        The profile's other settings cannot be combined with a calibration.
    CalibrationError
        The folder contains no calibration, or one of other optics.
    OSError
        The file cannot be written.
    """
    content = rig.model_dump(mode="json", exclude_unset=True)
    model, optics = content.setdefault("model", {}), content.setdefault("optics", {})
    dropped = [
        f"{name}.{key}"
        for name, part, key in (
            ("model", model, "psf"),
            ("optics", optics, "extra_blur_nm"),
        )
        if part.pop(key, None)
    ]
    whole = calibration.absolute()
    model["calibration"] = str(whole)
    rig_family(check_profile(content, str(path)))
    folder = path.absolute().parent
    if whole.is_relative_to(folder):
        model["calibration"] = whole.relative_to(folder).as_posix()
    write_profile(check_profile(content, str(path)), path)
    notes = [f"left out: {', '.join(dropped)}"] if dropped else []
    if model.get("bead_diameter_nm") is not None:
        notes.append("model.bead_diameter_nm is kept: delete it for other specimens")
    return "; ".join(notes)
