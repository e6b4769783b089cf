"""The watch over the optics: what alerts, what does not, and what it says."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.drift import DriftMonitor, DriftState, Tracker, TrackState
from deepblur_live.profile import Drift

START = np.array([0.05, 0.03, -0.04, 0.02, 0.0, 0.01, -0.02])
DEFOCUS = np.eye(7)[0]
COMA = np.eye(7)[3]


def point(time, coefficients, sigma=0.001, **changes) -> TrackState:
    fields = {"nis": 7.0, "accepted": True, **changes}
    return TrackState(time, np.asarray(coefficients), np.eye(7) * sigma**2, **fields)


@pytest.fixture
def monitor(family) -> DriftMonitor:
    return DriftMonitor(family, Drift(baseline_points=5), wavelength_nm=540.0)


@pytest.fixture
def armed(monitor) -> DriftMonitor:
    """A monitor with its baseline at START."""
    feed(monitor, 0, [START] * 5)
    return monitor


def feed(monitor, first, coefficients):
    """Feed points a second apart; return the alerts."""
    found = [monitor.update(point(first + k, c)) for k, c in enumerate(coefficients)]
    return [alert for alert in found if alert is not None]


@pytest.fixture
def session(family, identification):
    """Track and watch a session of `drift` (n, P) about START; return the alerts."""

    def run(covariance, drift, *, seed=0, twins=False):
        identify = identification(covariance, seed, twins)
        tracker = Tracker(family)
        monitor = DriftMonitor(family, Drift(), wavelength_nm=540.0)
        alerts = []
        for k, moved in enumerate(drift):
            track = tracker.update(0.5 * k, identify(START + moved))
            alert = monitor.update(track)
            if alert is not None:
                alerts.append(alert)
        return alerts, monitor.status

    return run


def test_baselining_counts_up(monitor):
    assert monitor.status.state is DriftState.BASELINING
    for k in range(4):
        monitor.update(point(k, START))
        assert monitor.status.n_baseline == k + 1
        assert monitor.status.baseline is None
        assert np.isnan(monitor.status.change_waves)
    monitor.update(point(5, START))
    status = monitor.status
    assert status.state is DriftState.OK
    assert (status.n_baseline, status.n_needed) == (5, 5)
    np.testing.assert_allclose(status.baseline, START)
    assert status.wavefront_rms == pytest.approx(np.linalg.norm(START))


def test_refused_points_bring_no_evidence(monitor, armed):
    before = armed.status
    for k in range(20):
        armed.update(point(5 + k, START + 0.2, accepted=False))
    assert armed.status is before


def test_step_within_the_baseline_starts_it_anew(monitor):
    feed(monitor, 0, [START] * 3)
    monitor.update(point(3, START + 0.1 * COMA, reacquired=True))
    assert monitor.status.n_baseline == 1
    feed(monitor, 4, [START + 0.1 * COMA] * 4)
    np.testing.assert_allclose(monitor.status.baseline, START + 0.1 * COMA)


@pytest.mark.parametrize("seed", range(5))
def test_still_noisy_session_is_quiet(session, covariance, seed):
    alerts, status = session(covariance, np.zeros((1200, 7)), seed=seed)
    assert alerts == []
    assert status.state is DriftState.OK
    # Undebiased, seven noisy modes alone would read about 0.015.
    assert status.change_waves < 0.015


def test_ramp_of_80_milliwaves_warns_then_alarms(session, covariance):
    drift = np.linspace(0, 0.08, 1200)[:, None] * COMA
    alerts, status = session(covariance, drift)
    assert [alert.level for alert in alerts] == [DriftState.WARN, DriftState.ALARM]
    assert status.state is DriftState.ALARM
    assert status.change_waves == pytest.approx(0.08, abs=0.012)
    assert status.change_nm == pytest.approx(540 * status.change_waves)
    warning, alarm = alerts
    # The ramp passes the limits at 270 and 540 s.
    assert warning.time == pytest.approx(270, abs=90)
    assert alarm.time == pytest.approx(540, abs=90)
    assert alarm.modes[0] == "vertical coma"
    assert alarm.mode_changes[0] == pytest.approx(0.075, abs=0.02)


def test_ramp_of_30_milliwaves_is_no_alert(session, covariance):
    small = covariance / 9
    drift = np.linspace(0, 0.03, 1200)[:, None] * COMA
    alerts, status = session(small, drift)
    assert alerts == []
    assert status.change_waves == pytest.approx(0.03, abs=0.008)


def test_twin_flips_are_no_change(family, armed):
    flipped = np.where(family.even, -START, START)
    assert feed(armed, 5, [flipped, START] * 20) == []
    assert armed.status.change_waves == 0.0


def test_random_twins_of_a_drifting_session(session, covariance):
    """The same session, its estimates in a random twin, has the same alerts."""
    drift = np.linspace(0.05, -0.05, 1200)[:, None] * DEFOCUS
    alerts, status = session(covariance / 4, drift, twins=True)
    plain, plain_status = session(covariance / 4, drift)
    assert [a.level for a in alerts] == [a.level for a in plain]
    assert status.change_waves == pytest.approx(plain_status.change_waves, abs=0.01)


def test_baseline_takes_one_twin(family, monitor):
    flipped = np.where(family.even, -START, START)
    feed(monitor, 0, [START, flipped, START, flipped, START])
    np.testing.assert_allclose(monitor.status.baseline, START)


def test_change_is_debiased(family):
    """White noise of known size reads as no change, and adds none to a real one."""
    rng = np.random.default_rng(1)
    sigma = 0.006

    def mean_square(moved: float) -> float:
        monitor = DriftMonitor(
            family, Drift(baseline_points=400), wavelength_nm=540.0, smoothing=2000
        )
        for k in range(2400):
            gamma = START + rng.normal(0, sigma, 7)
            if k >= 400:
                gamma = gamma + moved * COMA
            monitor.update(point(k, gamma, sigma))
        return monitor.status.change_waves

    assert mean_square(0.0) < 0.005
    assert mean_square(0.05) == pytest.approx(0.05, abs=0.002)


def test_hysteresis(armed):
    def ends_in(amount, first):
        alerts = feed(armed, first, [START + amount * COMA] * 30)
        return armed.status.state, len(alerts)

    assert ends_in(0.035, 10) == (DriftState.OK, 0)
    assert ends_in(0.040, 110) == (DriftState.WARN, 1)
    assert ends_in(0.031, 210) == (DriftState.WARN, 0)
    assert ends_in(0.075, 310) == (DriftState.ALARM, 1)
    assert ends_in(0.060, 410) == (DriftState.ALARM, 0)
    assert ends_in(0.050, 510) == (DriftState.WARN, 0)
    assert ends_in(0.020, 610) == (DriftState.OK, 0)


def test_level_is_held_for_a_while(armed):
    feed(armed, 5, [START + 0.04 * COMA] * 10)
    # Four points for the smoothing to forget, then one less than the hold.
    feed(armed, 15, [START] * 19)
    assert armed.status.state is DriftState.WARN
    feed(armed, 34, [START] * 5)
    assert armed.status.state is DriftState.OK


def test_one_alert_a_rise(armed):
    assert len(feed(armed, 5, [START + 0.1 * COMA] * 50)) == 1


def test_acknowledge_lasts_until_the_next_rise(armed):
    armed.acknowledge()
    assert not armed.status.acknowledged
    feed(armed, 5, [START + 0.04 * COMA] * 10)
    armed.acknowledge()
    assert armed.status.acknowledged
    feed(armed, 15, [START + 0.045 * COMA] * 10)
    assert armed.status.acknowledged
    feed(armed, 25, [START + 0.09 * COMA] * 10)
    assert armed.status.state is DriftState.ALARM
    assert not armed.status.acknowledged
    armed.acknowledge()
    feed(armed, 35, [START] * 30)
    assert armed.status.state is DriftState.OK
    assert not armed.status.acknowledged


def test_rebaseline(armed):
    feed(armed, 5, [START + 0.1 * COMA] * 10)
    armed.rebaseline()
    assert armed.status.state is DriftState.BASELINING
    assert armed.status.n_baseline == 0
    assert np.isnan(armed.status.change_waves)
    assert feed(armed, 15, [START + 0.1 * COMA] * 20) == []
    assert armed.status.state is DriftState.OK
    np.testing.assert_allclose(armed.status.baseline, START + 0.1 * COMA)


def test_alert_says_what_how_much_and_since_when(armed):
    feed(armed, 5, [START] * 60)
    moved = START + 0.07 * DEFOCUS - 0.04 * COMA
    (alert,) = feed(armed, 65, [moved] * 3)
    assert alert.level is DriftState.WARN
    rest = feed(armed, 68, [moved] * 3)
    assert [a.level for a in rest] == [DriftState.ALARM]
    alarm = rest[0]
    assert alarm.modes == ("defocus", "vertical coma")
    # Four of the five points averaged have moved.
    np.testing.assert_allclose(alarm.mode_changes, (0.056, -0.032))
    assert alarm.since == pytest.approx(64.0)
    assert alarm.change_nm == pytest.approx(540 * alarm.change_waves)
    assert alarm.uncertainty == pytest.approx(0.001, rel=0.1)
    assert alarm.text.startswith("ALARM at 0:01:0")
    assert f"{alarm.change_nm:.0f} ± 1 nm rms" in alarm.text
    assert f"({alarm.change_waves:.3f} ± 0.001 waves)" in alarm.text
    assert "mostly defocus (+30 nm) and vertical coma (-17 nm)" in alarm.text
    assert "since about 0:01:04" in alarm.text


def test_impossible_smoothing_is_refused(family):
    with pytest.raises(ValueError, match="smoothing"):
        DriftMonitor(family, Drift(), wavelength_nm=540.0, smoothing=0)
