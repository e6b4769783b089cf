"""What a calibration says of itself: a strict JSON manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from deepblur_live.calibration.stack import CalibrationError

if TYPE_CHECKING:
    from pathlib import Path

    from deepblur_live.profile import Optics

__all__ = [
    "FORMAT",
    "OPTICS",
    "VERSION",
    "CalibratedOptics",
    "CalibrationManifest",
    "State",
    "check_optics",
    "different_optics",
    "read_manifest",
]

FORMAT: Literal["deepblur-live calibration"] = "deepblur-live calibration"
VERSION: Literal[1] = 1
# Optics that differ by more than this share are another microscope's.
_TOLERANCE = 0.005
OPTICS = (
    "numerical_aperture",
    "wavelength_nm",
    "refractive_index",
    "pixel_size_nm",
    "apodisation",
    "pixel_aperture",
)


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


class CalibratedOptics(_Part):
    """The optics that the beads were fitted with."""

    numerical_aperture: float
    wavelength_nm: float
    refractive_index: float
    pixel_size_nm: float
    apodisation: float
    pixel_aperture: float


class State(_Part):
    """One stack: where it came from, its beads, and how well they agree.

    Parameters
    ----------
    file, sha256
        The recording; the hash is empty for a folder.
    shape
        [H, W] of the frame.
    planes
        Numbers of the planes that were used.
    z_um
        Their positions from best focus, µm; larger is deeper.
    beads
        Number of beads in each state.
    blur_nm, blur_error_nm
        Standard deviation of the shared Gaussian, and its error, nm.
    preferred_aperture, preferred_aperture_error
        NA that explains the beads best; it was not used.
    scatter_nm
        Scatter of single beads about the linear field, rms over all modes, nm.
    held_out_pupil_db, held_out_db
        How well half of the beads explain the others: by the pupil, with the residual.
    modes_tried
        Last Noll index → held-out beads explained, dB.
    """

    file: str
    sha256: str
    shape: list[int]
    planes: list[int]
    z_um: list[float]
    beads: dict[str, int]
    blur_nm: float
    blur_error_nm: float
    preferred_aperture: float | None
    preferred_aperture_error: float | None
    scatter_nm: float
    held_out_pupil_db: float | None
    held_out_db: float | None
    modes_tried: dict[str, float]


class CalibrationManifest(_Part):
    """The contents of ``manifest.json``; every key is checked."""

    format: Literal["deepblur-live calibration"]
    version: Literal[1]
    name: str
    created: str
    program: str
    optics: CalibratedOptics
    noll: list[int]
    bead_diameter_nm: float
    states: list[State]
    files: dict[str, str]


def read_manifest(path: Path) -> CalibrationManifest:
    """Read a manifest.

    Raises
    ------
    CalibrationError
        It is not a manifest, or of another version; the text names file and key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError(
            f"{path}: cannot be read ({error.strerror}); give the folder that "
            "`deepblur-live calibrate` wrote"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CalibrationError(f"{path}: not a readable JSON file: {error}") from error
    kind = content.get("format") if isinstance(content, dict) else None
    if kind != FORMAT:
        raise CalibrationError(f"{path}: not a calibration of deepblur-live")
    if content.get("version") != VERSION:
        raise CalibrationError(
            f"{path}: a calibration of version {content.get('version')}, but this "
            f"program reads version {VERSION}: calibrate again"
        )
    try:
        return CalibrationManifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise CalibrationError(f"{path}: {key}: {first['msg']}") from error


def check_optics(folder: Path, own: CalibratedOptics, optics: Optics) -> None:
    """Check that a profile's optics are those of a calibration.

    Raises
    ------
    CalibrationError
        A number differs; the text has both.
    """
    for key, here, there in different_optics(own, optics):
        raise CalibrationError(
            f"{folder}: calibrated with {key} {here:g}, but the profile has "
            f"optics.{key} = {there:g}: calibrate this microscope, or correct the "
            "profile"
        )


def different_optics(
    one: CalibratedOptics | Optics, other: Optics
) -> list[tuple[str, float, float]]:
    """Return the key and both numbers of what two microscopes differ in."""
    pairs = [(key, getattr(one, key), float(getattr(other, key))) for key in OPTICS]
    return [
        (key, here, there)
        for key, here, there in pairs
        if abs(here - there) > _TOLERANCE * max(abs(here), abs(there))
    ]
