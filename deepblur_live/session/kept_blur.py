"""The copy of a measured blur in a session's folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepblur_live.profile import Profile

__all__ = ["keep_blur", "with_kept_blur"]

_KEYS = ("calibration", "psf")
# Files that are not needed to load a calibration.
_NOT_KEPT = ("report.html",)


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
