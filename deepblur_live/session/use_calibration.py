"""Put a new calibration into a rig's profile, with the checks of its use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepblur_live.calibration.rig import rig_family
from deepblur_live.profile import check_profile, write_profile

if TYPE_CHECKING:
    from pathlib import Path

    from deepblur_live.profile import Profile

__all__ = ["use_calibration"]


def use_calibration(rig: Profile, calibration: Path, path: Path) -> str:
    """Write a profile that uses a calibration; return what to know of it, or empty.

    What contradicts a calibration, a fixed PSF and another Gaussian, is left out. That
    the specimen is beads stays in, as it was said of sessions with this profile.

    Parameters
    ----------
    rig
        The profile that the beads were calibrated with.
    calibration
        Its folder; the profile holds the path relative to its own folder if it is in
        it.
    path
        The file to write.

    Raises
    ------
    ProfileError
        The profile's other settings do not go with a calibration.
    CalibrationError
        The folder holds no calibration, or one of other optics.
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
    said = [f"left out: {', '.join(dropped)}"] if dropped else []
    if model.get("bead_diameter_nm") is not None:
        said.append("model.bead_diameter_nm stays: delete it for other specimens")
    return "; ".join(said)
