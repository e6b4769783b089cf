"""Distance from a known state: no baseline, and errors that do not cancel."""

from __future__ import annotations

import numpy as np
import pytest
from spectra import CUTOFF, Specimen, gaussian

from deepblur_live.drift import (
    DriftState,
    DriftWatch,
    ReferenceMonitor,
    SpectralMonitor,
    TrackState,
    UnfollowedBlur,
)
from deepblur_live.profile import Drift

SETTINGS = Drift(batch_s=5, baseline_points=10, cooldown_s=0)
REFERENCE = np.array([0.0, 0.03, -0.04, 0.02, 0.0, 0.01, -0.02])
# Defocus depends on the specimen.
COMPARED = np.arange(7) > 0
SIGMA = 0.002


@pytest.fixture
def monitor(family, errors) -> ReferenceMonitor:
    return ReferenceMonitor(family, SETTINGS, errors, REFERENCE, COMPARED)


def feed(watch, change, seconds=12, sigma=SIGMA, start=0.0, **track):
    """Feed an estimate a second; return the alerts."""
    found = []
    rng = np.random.default_rng(0)
    for k in range(seconds):
        gamma = REFERENCE + change + rng.normal(0, sigma / 4, 7)
        one = TrackState(start + k, gamma, np.eye(7) * sigma**2, 7.0, True, **track)
        found.append(watch.update(one))
    return [alert for alert in found if alert is not None]


def test_a_level_of_the_spectra_alone_is_provisional_before_their_baseline(monitor):
    specimen = Specimen()
    watch = DriftWatch(monitor, SpectralMonitor(CUTOFF, SETTINGS))
    for k in range(32):
        watch.add_spectrum(k, specimen.frame(gaussian(1.2 if k < 20 else 1.3)))
        feed(watch, 0.0, seconds=1, start=float(k))
        if k == 19:
            # The estimates are compared with the calibration, and that is no baseline.
            assert watch.status.state is DriftState.OK
            assert not watch.status.provisional
    assert watch.status.state in (DriftState.WARN, DriftState.ALARM)
    assert watch.status.provisional
    # They leave it, too: that is certain.
    feed(watch, np.eye(7)[3] * 0.3, seconds=12, start=32.0)
    assert watch.status.state is DriftState.ALARM
    assert not watch.status.provisional


def test_the_first_point_is_enough(monitor):
    assert monitor.status.state is DriftState.BASELINING
    assert feed(monitor, 0.0, seconds=4) == []
    # The distance is known at once, the state after one point.
    assert monitor.status.change < 0.005
    assert monitor.status.state is DriftState.BASELINING
    assert np.isnan(monitor.status.limits).all()
    assert feed(monitor, 0.0, start=4) == []
    assert monitor.status.state is DriftState.OK
    assert monitor.status.reason == ""
    assert monitor.status.limits == (SETTINGS.warn, SETTINGS.alarm)


def test_a_distance_is_an_alert(monitor):
    change = 0.08 * np.eye(7)[3]
    (alert,) = feed(monitor, change)
    assert alert.level is DriftState.ALARM
    assert alert.change == pytest.approx(0.08, abs=0.003)
    assert alert.coefficients == ("vertical coma",)
    assert "differs by" in alert.text
    assert "from the calibration" in alert.text
    assert alert.since < 2
    assert monitor.assess().change == pytest.approx(0.08, abs=0.003)


def test_defocus_does_not_count(monitor):
    assert feed(monitor, 0.2 * np.eye(7)[0]) == []
    assert monitor.status.state is DriftState.OK
    assert monitor.status.change < 0.01


def test_the_whole_stated_error_counts(monitor):
    """Unlike in a change from a baseline, in which most of it cancels."""
    change = 0.08 * np.eye(7)[3]
    assert feed(monitor, change, sigma=0.03) == []
    assert monitor.status.state is DriftState.OK
    assert monitor.status.change_sigma > 0.02


def test_the_equivalent_nearest_the_reference_counts(monitor, family):
    even = np.where(family.even, -1.0, 1.0)
    flipped = even * REFERENCE - REFERENCE
    assert feed(monitor, flipped) == []
    assert monitor.status.change < 0.01


def test_rejected_estimates_are_no_evidence(monitor, family):
    far = TrackState(0.0, REFERENCE + 0.1, np.eye(7) * 1e-6, 70.0, accepted=False)
    for _ in range(20):
        assert monitor.update(far) is None
    assert monitor.status.state is DriftState.BASELINING


def test_alerts_can_be_answered(monitor):
    feed(monitor, 0.08 * np.eye(7)[3])
    monitor.acknowledge()
    assert monitor.status.acknowledged
    monitor.specimen_changed("the stage has moved")
    # What stands is not cleared by another specimen, but by what is measured there.
    assert monitor.status.state is DriftState.ALARM
    assert feed(monitor, 0.0, seconds=25, start=20) == []
    assert monitor.status.state is DriftState.OK
    monitor.snooze(100)
    assert feed(monitor, 0.08 * np.eye(7)[3], start=60) == []
    monitor.rebaseline()
    assert monitor.status.state is DriftState.BASELINING
    assert monitor.status.baseline is REFERENCE
    with pytest.raises(ValueError, match="0 seconds or more"):
        monitor.snooze(-1)


def test_it_counts_in_addition_to_the_spectra(monitor):
    """They show a change within the session, not the distance from the reference."""
    watch = DriftWatch(monitor, SpectralMonitor(CUTOFF, SETTINGS))
    specimen, alerts = Specimen(), []
    for second in range(78):
        watch.add_spectrum(second, specimen.frame(gaussian(1.2)))
        alerts += feed(watch, 0.05 * np.eye(7)[3] * (second > 62), 1, start=second)
    assert watch.spectral.armed
    assert watch.spectral.status.state is DriftState.OK
    (alert,) = alerts
    assert alert.level is DriftState.WARN
    assert watch.status.state is DriftState.WARN
    assert watch.assess().level is DriftState.WARN


def test_a_fixed_psf_has_no_state(family):
    watch = DriftWatch(UnfollowedBlur("fixed"), SpectralMonitor(CUTOFF, SETTINGS))
    watch.specimen_changed("moved")
    watch.rebaseline()
    watch.snooze(3)
    watch.acknowledge()
    assert feed(watch, 0.3) == []
    assert watch.assess() is None
    assert watch.status.state is DriftState.NOT_FOLLOWED
    assert watch.status.reason == "fixed"
