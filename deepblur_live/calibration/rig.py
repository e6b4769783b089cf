"""The blurs of a rig: of its optics, of its calibration, or one measured PSF."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur import family_from_profile
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.calibration.folder import load_calibration
from deepblur_live.calibration.learning import WIDE_MODES, learn_family
from deepblur_live.calibration.place import (
    ASSUMED_NM,
    fixed_field,
    place_family,
    states_over,
)
from deepblur_live.calibration.psf_input import read_psf
from deepblur_live.calibration.psf_learning import learn_psf_family
from deepblur_live.calibration.stack import CalibrationError
from deepblur_live.optics.pupil import defocus_per_um

if TYPE_CHECKING:
    from deepblur_live.blur import BlurFamily
    from deepblur_live.blur.calibrated import CalibratedZernikeFamily
    from deepblur_live.blur.psf_family import PsfFamily
    from deepblur_live.calibration.folder import SavedCalibration
    from deepblur_live.profile import Optics, Profile

__all__ = ["bead_family", "calibrated_family", "rig_family"]

# A profile's Gaussian is that of the calibration if it differs by no more than
# rounding, or by this many of its standard errors.
_ROUNDING_NM, _ERRORS = 1.0, 3.0
# In PSF space: eigen-PSFs, and the defocus within which planes are used, waves rms
# (docs/decisions/0216-psf-space-in-a-session.md).
_EIGEN, _FOCUS = 8, 0.15


def rig_family(profile: Profile) -> BlurFamily:
    """Return the family of blurs of a rig.

    That of ``model.calibration``, or the PSF in ``model.psf``, if the profile has one;
    otherwise `deepblur_live.blur.family_from_profile`.

    Raises
    ------
    CalibrationError
        A file cannot be used, or contradicts the profile's optics; the text names it,
        and both numbers.
    ValueError
        When there is no such family, or it refuses the profile's optics.
    """
    model = profile.model
    if model.psf is not None:
        return read_psf(Path(model.psf), profile.optics)
    if model.calibration is not None:
        saved = load_calibration(Path(model.calibration), profile.optics)
        varies = model.blur == "field"
        shapes = {tuple(state.shape) for state in saved.manifest.states}
        if varies and len(shapes) > 1:
            raise CalibrationError(
                f"{saved.folder}: has states with frames of different sizes, which are "
                'no one field: set model.blur to "uniform"'
            )
        if model.calibration_basis == "psf":
            return fixed_field(saved) if varies else bead_family(saved)
        hull = model.calibration_set == "hull"
        family = calibrated_family(saved, profile.optics, hull=hull)
        if model.calibration_set == "box":
            family = replace(family, learned=replace(family.learned, box=True))
        if varies:
            return place_family(saved, family, varies=True)
        return family
    return family_from_profile(profile)


def bead_family(saved: SavedCalibration) -> PsfFamily:
    """Return the family of the beads' images themselves, without a pupil.

    Mean and principal components of the beads of all states in the planes near focus.
    The size of the beads stays in.

    Raises
    ------
    CalibrationError
        The folder contains no bead images, or too few.
    """
    manifest = saved.manifest
    optics = manifest.optics
    sine = optics.numerical_aperture / optics.refractive_index
    per_um = defocus_per_um(sine, optics.refractive_index, optics.wavelength_nm)
    images = []
    for k, state in enumerate(manifest.states):
        near = np.abs(np.array(state.z_um)) * per_um <= _FOCUS
        if f"{k}.beads" not in saved.tensors:
            raise CalibrationError(
                f"{saved.folder}: contains no bead images: calibrate again, or set "
                'model.calibration_basis to "modes"'
            )
        beads = saved.tensors[f"{k}.beads"][:, near].astype(np.float64)
        images.append(beads.reshape(-1, *beads.shape[2:]))
    psfs = np.concatenate(images)
    cutoff = optics.numerical_aperture * optics.pixel_size_nm / optics.wavelength_nm
    try:
        return learn_psf_family(psfs, cutoff, min(_EIGEN, len(psfs) - 1))
    except ValueError as error:
        raise CalibrationError(f"{saved.folder}: gives no blurs: {error}") from error


def calibrated_family(
    saved: SavedCalibration, optics: Optics, *, hull: bool = False
) -> CalibratedZernikeFamily:
    """Return the family of a calibration's states.

    Its modes are defocus and those of the calibration, in place of ``optics.noll``; its
    Gaussian is the calibration's. The mean is that of the states over the field. The
    covariance is that of `learn_family` with 40 nm rms assumed between
    states, and that of a place in the field, as it is not known where in a frame the
    structure is.

    Parameters
    ----------
    saved
        The calibration, from `load_calibration`.
    optics
        Optics of the profile.
    hull
        Whether the admissible set is the hull of the states, and the coefficients as
        many of their principal components as it has dimensions.

    Raises
    ------
    CalibrationError
        The profile states another Gaussian, or the numbers are impossible.
    """
    manifest, wavelength_nm = saved.manifest, optics.wavelength_nm
    blur_nm = math.sqrt(np.mean([state.blur_nm**2 for state in manifest.states]))
    _check_gaussian(saved, optics, blur_nm)
    if hull and len(manifest.states) < 2:
        raise CalibrationError(
            f"{saved.folder}: one state has no hull: calibrate more states, or set "
            'model.calibration_set to "ellipsoid"'
        )
    means, spread = states_over(saved)
    update = {"noll": (4, *manifest.noll), "extra_blur_nm": blur_nm}
    try:
        local = ZernikeFamily.from_optics(optics.model_copy(update=update))
        learned = len(set(local.noll) - set(WIDE_MODES))
        return learn_family(
            means,
            local,
            assumed=ASSUMED_NM / wavelength_nm,
            field=spread,
            directions=min(learned, len(means) - 1) if hull else None,
            hull=hull,
        )
    except ValueError as error:
        raise CalibrationError(f"{saved.folder}: gives no blurs: {error}") from error


def _check_gaussian(saved: SavedCalibration, optics: Optics, blur_nm: float) -> None:
    """Check that a profile has the Gaussian that the beads show."""
    given = optics.extra_blur_nm
    if given == 0.0:
        return
    errors = [state.blur_error_nm for state in saved.manifest.states]
    apart = max(_ROUNDING_NM, _ERRORS * max(errors))
    if not isinstance(given, float | int) or abs(given - blur_nm) > apart:
        raise CalibrationError(
            f"{saved.folder}: calibrated with a Gaussian of {blur_nm:.0f} nm, and the "
            f"profile has optics.extra_blur_nm = {given}: leave extra_blur_nm out"
        )
