"""The demonstration shows what it is there to show: a warning, then an alarm."""

import numpy as np
import pytest

from deepblur_live.acquisition.course import demonstration_course
from deepblur_live.acquisition.scene import SimulatedScene
from deepblur_live.cli.runs import demo_profile
from deepblur_live.drift import DriftMonitor, TrackState
from deepblur_live.optics import ZernikeFamily


# The blur is found within 4 nm or so a mode, by an average over five seconds, whose
# points are therefore alike: too few of them tell by how much.
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("spacing", [0.5, 1.0])
def test_warns_and_alarms_within_its_75_seconds(seed, spacing):
    family = ZernikeFamily()
    course = demonstration_course(family)
    profile = demo_profile(SimulatedScene(family=family, shape=(64, 64)))
    monitor = DriftMonitor(family, profile.drift, wavelength_nm=540.0)
    rng = np.random.default_rng(seed)
    keep = np.exp(-spacing / profile.model.average_s)
    error, alerts = rng.normal(0, 0.007, 7), []
    for time in np.arange(3.0, 75.0, spacing):
        error = keep * error + rng.normal(0, 0.007, 7) * np.sqrt(1 - keep**2)
        gamma = course.coefficients(time) + error
        track = TrackState(time, gamma, np.eye(7) * 0.01**2, nis=7.0, accepted=True)
        alerts.append(monitor.update(track))
    told = [alert for alert in alerts if alert is not None]
    assert told[0].time > course.thermal_start_s
    assert told[-1].level.name == "ALARM"
    assert told[-1].time >= course.steps[0].time
