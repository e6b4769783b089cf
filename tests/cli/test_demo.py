"""The demonstration must show a warning, then an alarm."""

import numpy as np
import pytest

from deepblur_live.acquisition.simulated_sample import SimulatedSample
from deepblur_live.acquisition.trajectory import demonstration_trajectory
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.blur.zernike_field import ZernikeField
from deepblur_live.cli.demo import (
    _simulated_slide,
    _with_field,
    demo_profile,
    simulated_sample,
)
from deepblur_live.drift import DriftMonitor, TrackState
from deepblur_live.profile import Profile, check_profile
from deepblur_live.runtime.pack import load_manifest


# Errors of about 4 nm per mode, correlated over five seconds as the average is.
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("spacing", [0.5, 1.0])
def test_warns_and_alarms_within_its_75_seconds(seed, spacing):
    family = ZernikeFamily()
    trajectory = demonstration_trajectory(family)
    profile = demo_profile(SimulatedSample(family=family, shape=(64, 64)))
    _, manifest = load_manifest("zernike7")
    monitor = DriftMonitor(family, profile.drift, manifest.error_model)
    rng = np.random.default_rng(seed)
    keep = np.exp(-spacing / profile.model.average_s)
    error, updates = rng.normal(0, 0.007, 7), []
    for time in np.arange(3.0, 75.0, spacing):
        error = keep * error + rng.normal(0, 0.007, 7) * np.sqrt(1 - keep**2)
        gamma = trajectory.coefficients(time) + error
        track = TrackState(time, gamma, np.eye(7) * 0.01**2, nis=7.0, accepted=True)
        updates.append(monitor.update(track))
    alerts = [alert for alert in updates if alert is not None]
    assert alerts[0].time > trajectory.thermal_start_s
    assert alerts[-1].level.name == "ALARM"
    assert alerts[-1].time >= trajectory.steps[0].time


@pytest.mark.parametrize("seed", range(2))
def test_a_field_that_tilts_is_named(seed):
    rig = _with_field(Profile())
    sample = simulated_sample(rig)
    assert isinstance(sample.family, ZernikeField)
    assert sample.shape == (768, 768)
    family, trajectory = sample.family, sample.trajectory
    profile = demo_profile(sample, "field")
    assert profile.model.blur == "field"
    _, manifest = load_manifest("zernike7")
    monitor = DriftMonitor(family, profile.drift, manifest.error_model)
    rng = np.random.default_rng(seed)
    keep, sigma = np.exp(-1.5 / profile.model.average_s), 0.03 * family.prior.scale
    error, updates = rng.normal(0, sigma), []
    for time in np.arange(3.0, 75.0, 1.5):
        error = keep * error + rng.normal(0, sigma) * np.sqrt(1 - keep**2)
        gamma = trajectory.coefficients(time) + error
        track = TrackState(time, gamma, np.diag(sigma**2), nis=48.0, accepted=True)
        updates.append(monitor.update(track))
    alerts = [alert for alert in updates if alert is not None]
    assert alerts[0].time > trajectory.thermal_start_s
    assert alerts[-1].level.name == "ALARM"
    assert alerts[-1].time >= trajectory.steps[0].time
    assert "specimen or the camera" in monitor.assess().cause


def test_a_bead_slide_has_the_optics_of_the_profile():
    content = {"optics": {"pixel_size_nm": 80.0}, "model": {"bead_diameter_nm": 100.0}}
    rig = check_profile(content, "test")
    slide = _simulated_slide(rig)
    assert slide.pixel_size_nm == 80
    larger = _simulated_slide(rig.model_copy(update={"model": Profile().model}))
    # A ball of twice the diameter, 200 nm without the key, has four times the light.
    light = [s.truth_image(0.0) - s.noise.offset_adu for s in (slide, larger)]
    assert light[1].sum() == pytest.approx(4 * light[0].sum(), rel=0.05)


@pytest.mark.parametrize(
    ("blur", "aperture", "pixel"),
    [("uniform", 0.95, 108.0), ("uniform", 0.5, 65.0), ("field", 0.5, 100.0)],
)
def test_any_optics_have_a_specimen_that_is_large_enough(blur, aperture, pixel):
    optics = {"numerical_aperture": aperture, "pixel_size_nm": pixel}
    rig = check_profile({"optics": optics, "model": {"blur": blur}}, "a test")
    sample = simulated_sample(rig)
    assert sample.family.window > 37
    frame = sample.frame(0.0).pixels
    assert frame.shape == sample.shape and frame.std() > 100


@pytest.mark.parametrize("make", [simulated_sample, _simulated_slide])
def test_a_psf_that_fills_the_frame_is_refused_with_what_to_change(make):
    optics = {"numerical_aperture": 0.2, "pixel_size_nm": 60.0}
    rig = check_profile({"optics": optics}, "a test")
    with pytest.raises(ValueError, match=r"NA 0\.2 .*larger optics\.pixel_size_nm"):
        make(rig)
