"""The blurs of a rig: of its optics, of its calibration, or one measured PSF."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepblur_live.blur import family_from_profile
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.calibration.folder import load_calibration
from deepblur_live.calibration.learning import learn_family
from deepblur_live.calibration.psf_input import read_psf
from deepblur_live.calibration.stack import CalibrationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepblur_live.blur import BlurFamily
    from deepblur_live.blur.calibrated import CalibratedZernikeFamily
    from deepblur_live.calibration.folder import SavedCalibration
    from deepblur_live.profile import Optics, Profile

__all__ = ["calibrated_family", "rig_family"]

# Rms change of the wavefront that is assumed between a measured state and that of a
# session, nm (docs/decisions/0198-calibration-in-a-session.md).
_ASSUMED_NM = 40.0
# A profile's Gaussian is that of the calibration if it differs by no more than
# rounding, or by this many of its standard errors.
_ROUNDING_NM, _ERRORS = 1.0, 3.0


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
        return calibrated_family(saved, profile.optics)
    return family_from_profile(profile)


def calibrated_family(
    saved: SavedCalibration, optics: Optics
) -> CalibratedZernikeFamily:
    """Return the family that a calibration's states make.

    Its modes are defocus and those of the calibration, in place of ``optics.noll``; its
    Gaussian is the calibration's. The mean is that of the states in the middle of the
    field. The covariance is that of `learn_family` with 40 nm rms assumed between
    states, and that of a place in the field, as it is not known where in a frame the
    structure is.

    Parameters
    ----------
    saved
        As `load_calibration` has read and checked it.
    optics
        The profile's.

    Raises
    ------
    CalibrationError
        The profile states another Gaussian, or the numbers are impossible.
    """
    manifest, wavelength_nm = saved.manifest, optics.wavelength_nm
    blur_nm = math.sqrt(np.mean([state.blur_nm**2 for state in manifest.states]))
    _check_gaussian(saved, optics, blur_nm)
    trends = np.array(
        [saved.tensors[f"{k}.trend"] for k in range(len(manifest.states))]
    )
    # Defocus comes first: it is no mode of the calibration, but each bead's z.
    trends = np.pad(trends, ((0, 0), (0, 0), (1, 0)))
    update = {"noll": (4, *manifest.noll), "extra_blur_nm": blur_nm}
    try:
        local = ZernikeFamily.from_optics(optics.model_copy(update=update))
        return learn_family(
            trends[:, 0],
            local,
            assumed=_ASSUMED_NM / wavelength_nm,
            field=_field_covariance(trends),
        )
    except ValueError as error:
        raise CalibrationError(f"{saved.folder}: gives no blurs: {error}") from error


def _check_gaussian(saved: SavedCalibration, optics: Optics, blur_nm: float) -> None:
    """Refuse a profile whose Gaussian is not the one that the beads have."""
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


def _field_covariance(trends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (M, M) of the modes at a random place, from trends (S, 3, M).

    The slopes are per frame: 1/12 is the variance of a place from edge to edge.
    """
    slopes = trends[:, 1:]
    covariance: NDArray[np.float64] = np.einsum("ski,skj->ij", slopes, slopes)
    return covariance / (12 * len(trends))
