"""A calibration goes into a profile only with the checks of its use."""

import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from deepblur_live.calibration import CalibrationError
from deepblur_live.calibration.rig import rig_family
from deepblur_live.profile import check_profile, load_profile
from deepblur_live.session.use_calibration import use_calibration

sys.path.append(str(Path(__file__).parents[1] / "calibration"))

from stack_slides import PROFILE
from written_calibration import NOLL, write_calibration


@pytest.fixture
def calibration(tmp_path):
    return write_calibration(tmp_path / "rig.calib", np.full((1, 3, len(NOLL)), 0.01))


def modes(path):
    """Of a session with a profile; defocus comes on top of the calibration's."""
    return rig_family(load_profile(path)).n_coefficients


def test_a_session_can_use_the_profile(calibration, tmp_path):
    path = tmp_path / "rig.toml"
    assert use_calibration(PROFILE, calibration, path) == ""
    written = tomllib.loads(path.read_text("utf-8"))
    # Both can be moved together.
    assert written["model"]["calibration"] == "rig.calib"
    assert written["camera"]["gain_e_per_adu"] == PROFILE.camera.gain_e_per_adu
    assert modes(path) == len(NOLL) + 1
    elsewhere = tmp_path / "profiles"
    elsewhere.mkdir()
    use_calibration(PROFILE, calibration, elsewhere / "rig.toml")
    assert modes(elsewhere / "rig.toml") == len(NOLL) + 1


def test_what_contradicts_it_is_left_out_and_named(calibration, tmp_path):
    content = PROFILE.model_dump(exclude_unset=True)
    content["optics"]["extra_blur_nm"] = 250.0
    content["model"] = {"psf": str(tmp_path / "psf.ome.tif")}
    rig = check_profile(content, "test")
    path = tmp_path / "rig.toml"
    assert use_calibration(rig, calibration, path) == (
        "left out: model.psf, optics.extra_blur_nm"
    )
    assert load_profile(path).model.psf is None
    content["model"] = {"bead_diameter_nm": 200.0}
    said = use_calibration(check_profile(content, "test"), calibration, path)
    assert said.endswith(
        "model.bead_diameter_nm is kept: delete it for other specimens"
    )


def test_other_optics_are_refused_with_both_numbers(calibration, tmp_path):
    content = PROFILE.model_dump(exclude_unset=True)
    content["optics"]["wavelength_nm"] = 600.0
    path = tmp_path / "rig.toml"
    with pytest.raises(CalibrationError, match=r"540.*600"):
        use_calibration(check_profile(content, "test"), calibration, path)
    assert not path.exists()
