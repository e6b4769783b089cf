"""Profiles as TOML files: read with errors that name the remedy, and written."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from deepblur_live.profile.rig import Profile, ProfileError, check_profile

__all__ = ["load_profile", "write_profile"]


def load_profile(path: Path | str) -> Profile:
    """Read a profile.

    Raises
    ------
    ProfileError
        The file cannot be read, is not TOML, holds an unknown key or a value out of
        range; the text names the file, the key, and what would be right.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: not a text file in UTF-8: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{path}: not a TOML file: {error}") from error
    _place_files(content, path.absolute().parent)
    return check_profile(content, str(path))


def write_profile(profile: Profile, path: Path | str) -> None:
    """Write a profile that `load_profile` reads back, with a comment for each key."""
    Path(path).write_text(profile.to_toml(), encoding="utf-8", newline="\n")


def _place_files(content: dict[str, Any], folder: Path) -> None:
    """Make the paths of a profile's files absolute; they are relative to its folder."""
    model = content.get("model")
    for key in ("calibration", "psf"):
        if isinstance(model, dict) and model.get(key) and type(model[key]) is str:
            model[key] = str(folder / model[key])
