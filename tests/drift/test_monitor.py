"""The drift monitor: what raises an alert, what does not, and the alert's text."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.drift import DriftMonitor, DriftState, Tracker, TrackState
from deepblur_live.profile import Drift

START = np.array([0.05, 0.03, -0.04, 0.02, 0.0, 0.01, -0.02])
DEFOCUS = np.eye(7)[0]
COMA = np.eye(7)[3]
# Points of five seconds, ten of which make the baseline.
QUICK = Drift(batch_s=5, baseline_points=10, cooldown_s=0)
BASELINE = 51


def point(time, coefficients, stated=0.001, **changes) -> TrackState:
    fields = {"nis": 7.0, "accepted": True, **changes}
    covariance = np.eye(7) * stated**2
    return TrackState(time, np.asarray(coefficients), covariance, **fields)


class Fed:
    """A monitor fed with a point a second, each with a little noise."""

    def __init__(
        self, family, errors, settings=QUICK, sigma=0.001, seed=0, every=1.0
    ) -> None:
        self.every = every
        self.monitor = DriftMonitor(family, settings, errors)
        self.sigma, self.rng, self.time = sigma, np.random.default_rng(seed), 0

    def __call__(self, coefficients, n, **changes):
        """Feed n points; return the alerts."""
        found = []
        for _ in range(n):
            noisy = coefficients + self.rng.normal(0, self.sigma, 7)
            found.append(self.monitor.update(point(self.time, noisy, **changes)))
            self.time += self.every
        return [alert for alert in found if alert is not None]

    @property
    def state(self) -> DriftState:
        return self.monitor.status.state


@pytest.fixture
def fed(family, errors) -> Fed:
    return Fed(family, errors)


@pytest.fixture
def armed(fed) -> Fed:
    """A monitor with its baseline at START."""
    assert fed(START, BASELINE) == []
    assert fed.state is DriftState.OK
    return fed


def test_baselining_counts_up(fed):
    for done in range(10):
        status = fed.monitor.status
        assert status.state is DriftState.BASELINING
        assert (status.n_baseline, status.n_needed) == (done, 10)
        assert status.baseline is None
        assert np.isnan(status.change)
        fed(START, 5 if done else 6)
    status = fed.monitor.status
    assert status.state is DriftState.OK
    assert status.n_baseline == 10
    np.testing.assert_allclose(status.baseline, START, atol=0.001)
    assert status.unit == "waves rms"
    assert status.lag_one < 0.35


def test_estimates_that_scatter_by_more_than_stated_are_not_charted(fed):
    """Accepted by the tracker's gate or not."""
    for jump in (0.0, 0.03) * BASELINE:
        fed(START + jump * COMA, 1, nis=40.0, accepted=jump == 0)
    status = fed.monitor.status
    assert status.state is DriftState.BASELINING
    assert "scatter by more" in status.reason
    # Armed once they have been steady for the length of a baseline.
    fed(START, 2 * BASELINE)
    assert fed.state is DriftState.OK
    assert fed.monitor.status.reason == ""


def test_a_specimen_with_large_uncertainty_is_not_charted(fed):
    # Seven modes of 0.03 waves: 0.079 of the wavefront, an alarm is 0.072.
    fed(START, 2 * BASELINE, stated=0.03)
    status = fed.monitor.status
    assert status.state is DriftState.BASELINING
    assert "± 43 nm" in status.reason
    assert fed(START + 0.2 * DEFOCUS, 60, stated=0.03) == []
    fed.monitor.specimen_changed()
    # Another specimen gives better estimates.
    fed(START, BASELINE, stated=0.02)
    assert fed.state is DriftState.OK
    assert fed.monitor.status.reason == ""


def test_rejected_points_are_no_evidence(armed):
    before = armed.monitor.status
    armed(START + 0.2, 60, accepted=False)
    armed(np.full(7, np.nan), 5)
    assert armed.monitor.status is before


def test_step_within_the_baseline_restarts_it(fed):
    fed(START, 30)
    fed(START + 0.1 * COMA, 1, reacquired=True)
    assert fed.monitor.status.n_baseline == 0
    assert "jumped" in fed.monitor.status.reason
    fed(START + 0.1 * COMA, BASELINE)
    np.testing.assert_allclose(
        fed.monitor.status.baseline, START + 0.1 * COMA, atol=0.002
    )
    assert fed.monitor.status.reason == ""


@pytest.mark.parametrize("sigma", [0.001, 0.01, 0.05])
def test_stable_session_raises_no_alert_whatever_its_noise(family, errors, sigma):
    fed = Fed(family, errors, sigma=sigma)
    assert fed(START, 2000) == []
    assert fed.state is DriftState.OK


def test_ramp_warns_then_alarms(armed):
    alerts = []
    for k in range(600):
        alerts += armed(START + 0.08 * k / 600 * COMA, 1)
    assert [alert.level for alert in alerts] == [DriftState.WARN, DriftState.ALARM]
    warning, alarm = alerts
    # The ramp passes the limits at 270 and 540 s after the baseline.
    assert warning.time - BASELINE == pytest.approx(270, abs=20)
    assert alarm.time - BASELINE == pytest.approx(540, abs=20)
    assert alarm.coefficients == ("vertical coma",)
    assert alarm.changes[0] == pytest.approx(0.073, abs=0.004)
    assert alarm.shape == "ramp"
    assert "slowly tilting" in alarm.cause
    assert alarm.cause in alarm.text and alarm.remedy in alarm.text
    # 0.08 waves in 600 s are 43 nm in ten minutes.
    assert "steadily by 4" in alarm.text


def test_a_ramp_of_many_hours_is_a_ramp(armed):
    """Longer than the history keeps single batches."""
    alerts = []
    for second in range(4000):
        alerts += armed(START + 2e-5 * second * COMA, 1)
    assert [alert.shape for alert in alerts] == ["ramp", "ramp"]
    # 0.00002 waves a second are 6.5 nm in ten minutes.
    assert "steadily by 6 nm in ten minutes" in alerts[1].text


@pytest.mark.parametrize("reset", ["frames_changed", "specimen_changed"])
def test_an_alarm_outlasts_a_new_baseline_and_rejected_estimates(armed, reset):
    changed = START + 0.1 * COMA
    assert armed(changed, 60)
    assert armed.state is DriftState.ALARM
    armed.monitor.acknowledge()
    getattr(armed.monitor, reset)("the exposure was changed")
    assert armed.state is DriftState.ALARM
    assert armed.monitor.status.acknowledged
    armed(changed, 3, accepted=False)
    assert armed.state is DriftState.ALARM
    assert armed(changed, BASELINE) == []
    assert armed.state is DriftState.ALARM
    armed.monitor.rebaseline()
    assert armed.state is DriftState.BASELINING


def test_a_snooze_after_a_new_baseline_counts_from_now(armed):
    now = armed.time
    armed.monitor.rebaseline()
    armed.monitor.snooze(600)
    armed(START, 5)
    assert armed.monitor.status.snoozed_until == pytest.approx(now + 600, abs=1)


def test_a_snooze_counts_from_now_although_estimates_were_rejected(armed):
    armed(START, 200, accepted=False)
    armed.monitor.snooze(60)
    armed(START, 1)
    assert armed.monitor.status.snoozed_until == pytest.approx(armed.time + 60, abs=2)


def test_evident_change_below_the_warning_level_raises_no_alert(armed):
    assert armed(START + 0.02 * COMA, 300) == []
    status = armed.monitor.status
    assert status.state is DriftState.OK
    assert status.evidence >= 1.0
    assert status.change == pytest.approx(0.02, abs=0.003)


def test_size_without_evidence_raises_no_alert(family, errors):
    """A single outlier is large, but no evidence for the charts."""
    fed = Fed(family, errors, sigma=0.02)
    fed(START, BASELINE)
    assert fed(START + 1.0 * COMA, 1) + fed(START, 60) == []


def test_step_is_found_within_a_few_points(armed):
    (alert,) = armed(START + 0.05 * DEFOCUS, 16)
    assert alert.level is DriftState.WARN
    assert alert.since == pytest.approx(BASELINE, abs=6)


def test_sign_flips_are_not_a_change(family, armed):
    flipped = np.where(family.even, -START, START)
    for _ in range(30):
        assert armed(flipped, 1) + armed(START, 3) + armed(flipped, 7) == []
    assert armed.monitor.status.change < 0.003


def test_baseline_has_one_sign(family, fed):
    flipped = np.where(family.even, -START, START)
    for _ in range(13):
        fed(START, 1)
        fed(flipped, 3)
    np.testing.assert_allclose(fed.monitor.status.baseline, START, atol=0.002)


def test_correlated_estimates_lengthen_the_batches(family, errors):
    """A running average with a memory of 10 s correlates batches of 5 s."""
    fed = Fed(family, errors, Drift(batch_s=5, baseline_points=20), sigma=0.0)
    wander = np.zeros(7)
    for _ in range(3000):
        wander = 0.9 * wander + fed.rng.normal(0, 0.004, 7)
        assert fed(START + wander, 1) == []
        if fed.state is DriftState.OK:
            break
    assert fed.state is DriftState.OK
    # A hundred seconds would suffice if they were independent.
    assert fed.time >= 300
    assert fed.monitor.status.lag_one <= 0.35


def test_charts_are_not_armed_while_batches_stay_correlated(family, errors):
    fed = Fed(family, errors, Drift(batch_s=1, baseline_points=10), sigma=0.0)
    wander = np.zeros(7)
    for _ in range(1500):
        # Oscillations of 100 s: correlated at every batch length tried.
        wander = 0.04 * np.sin(2 * np.pi * (fed.time / 100 + np.arange(7) / 7))
        assert fed(START + wander, 1) == []
    status = fed.monitor.status
    assert status.state is DriftState.BASELINING
    assert status.reason.startswith("not armed")
    assert status.lag_one > 0.35


def test_missing_frames_and_an_uneven_clock(family, errors):
    fed = Fed(family, errors)
    for _ in range(60):
        assert fed(START, int(fed.rng.integers(1, 12))) == []
        fed.time += int(fed.rng.integers(0, 40))
    assert fed.state is DriftState.OK
    found = []
    for _ in range(8):
        found += fed(START + 0.06 * COMA, 5)
        fed.time += 10
    assert [alert.level for alert in found] == [DriftState.WARN]


def test_hysteresis(armed):
    def ends_in(amount):
        alerts = armed(START + amount * COMA, 60)
        return armed.state, len(alerts)

    assert ends_in(0.033) == (DriftState.OK, 0)
    assert ends_in(0.040) == (DriftState.WARN, 1)
    assert ends_in(0.031) == (DriftState.WARN, 0)
    assert ends_in(0.076) == (DriftState.ALARM, 1)
    assert ends_in(0.061) == (DriftState.ALARM, 0)
    assert ends_in(0.050) == (DriftState.WARN, 0)
    assert ends_in(0.020) == (DriftState.OK, 0)


def test_cool_down(family, errors):
    fed = Fed(family, errors, QUICK.model_copy(update={"cooldown_s": 300.0}))
    fed(START, BASELINE)
    times = []
    for _ in range(6):
        times += [a.time for a in fed(START + 0.05 * COMA, 60)]
        fed(START, 60)
    assert 2 <= len(times) <= 3
    assert np.diff(times).min() >= 300


def test_acknowledge_lasts_until_the_next_rise(armed):
    armed.monitor.acknowledge()
    assert not armed.monitor.status.acknowledged
    armed(START + 0.045 * COMA, 30)
    armed.monitor.acknowledge()
    assert armed.monitor.status.acknowledged
    armed(START + 0.05 * COMA, 30)
    assert armed.monitor.status.acknowledged
    armed(START + 0.09 * COMA, 30)
    assert armed.state is DriftState.ALARM
    assert not armed.monitor.status.acknowledged
    armed.monitor.acknowledge()
    armed(START, 60)
    assert armed.state is DriftState.OK
    assert not armed.monitor.status.acknowledged


def test_snooze_postpones_the_alert(armed):
    armed.monitor.snooze(120)
    until = armed.monitor.status.snoozed_until
    assert until == BASELINE - 1 + 120
    assert armed(START + 0.05 * COMA, 60) == []
    assert armed.state is DriftState.WARN
    (alert,) = armed(START + 0.05 * COMA, 80)
    assert until <= alert.time < until + 6
    assert armed.monitor.status.snoozed_until is None
    # An alarm acknowledged during the snooze is not raised afterwards.
    armed.monitor.snooze(60)
    armed(START + 0.1 * COMA, 30)
    assert armed.state is DriftState.ALARM
    armed.monitor.acknowledge()
    assert armed(START + 0.1 * COMA, 60) == []
    with pytest.raises(ValueError, match="snooze"):
        armed.monitor.snooze(-1)


def test_rebaseline(armed):
    armed(START + 0.1 * COMA, 30)
    assert armed.state is DriftState.ALARM
    armed.monitor.rebaseline()
    status = armed.monitor.status
    assert status.state is DriftState.BASELINING
    assert status.n_baseline == 0
    assert np.isnan(status.change)
    assert armed(START + 0.1 * COMA, 200) == []
    assert armed.state is DriftState.OK
    np.testing.assert_allclose(
        armed.monitor.status.baseline, START + 0.1 * COMA, atol=0.002
    )


def test_another_specimen_is_not_a_change(armed):
    """Its systematic error differs: 0.08 waves that are not the optics'."""
    armed.monitor.specimen_changed("the stage has moved")
    status = armed.monitor.status
    assert (status.state, status.reason) == (
        DriftState.BASELINING,
        "the stage has moved",
    )
    elsewhere = START + 0.08 * COMA - 0.05 * DEFOCUS
    assert armed(elsewhere, 300) == []
    assert armed.state is DriftState.OK
    assert armed.monitor.status.change < 0.005
    (alert,) = armed(elsewhere + 0.05 * DEFOCUS, 30)
    assert alert.coefficients == ("defocus",)


def test_evident_change_is_carried_over_to_another_specimen(armed):
    moved = START + 0.05 * COMA
    assert len(armed(moved, 60)) == 1
    armed.monitor.specimen_changed()
    armed(moved - 0.1 * DEFOCUS, 20)
    # The warning persists while the new baseline is made.
    assert armed.state is DriftState.WARN
    armed(moved - 0.1 * DEFOCUS, 200)
    assert armed.state is DriftState.WARN
    assert armed.monitor.status.change == pytest.approx(0.05, abs=0.004)
    (alert,) = armed(START + 0.09 * COMA - 0.1 * DEFOCUS, 30)
    assert alert.level is DriftState.ALARM
    assert alert.change == pytest.approx(0.09, abs=0.005)


def dimmed(fed, stated):
    """Dim the frames by a third while the blur changes by 0.03 waves, four times."""
    found = fed(START, BASELINE, stated=stated)
    for k in range(4):
        crept = START + 0.03 * k * COMA
        for part in np.linspace(0, 1, 60):
            fed.monitor.light_changed(-0.4 * part)
            found += fed(crept + 0.03 * part * COMA, 1, stated=stated)
        assert fed.monitor.status.evidence >= 1
        fed.monitor.frames_changed("the frames have become dimmer")
        fed.monitor.light_changed(0.0)
        assert fed.monitor.status.reason == "the frames have become dimmer"
        found += fed(crept + 0.03 * COMA, BASELINE + 30, stated=stated)
    return found


def test_creep_with_the_brightness_is_not_a_change(fed):
    """With an uncertainty of 0.053 waves the light can have caused all of it."""
    assert dimmed(fed, 0.02) == []
    assert fed.state is DriftState.OK
    assert fed.monitor.status.change < 0.005


def test_drift_accumulates_while_the_light_fades(fed):
    """With an uncertainty of 0.003 waves the light cannot have caused 0.03."""
    warning, alarm = dimmed(fed, 0.001)
    assert (warning.level, alarm.level) == (DriftState.WARN, DriftState.ALARM)
    assert fed.monitor.status.change == pytest.approx(0.12, abs=0.005)


def test_a_carried_change_ends_with_its_repair(armed):
    dimmer = "the frames have become dimmer"
    moved = START + 0.06 * COMA
    assert armed(moved, 60)
    armed.monitor.frames_changed(dimmer)
    armed(moved, BASELINE + 30)
    assert armed.state is DriftState.WARN
    armed(START, 60)
    assert armed.state is DriftState.OK
    armed.monitor.frames_changed(dimmer)
    assert armed(START, 200) == []
    assert armed.state is DriftState.OK
    assert armed.monitor.status.change < 0.005
    # Within a baseline a repair is a jump.
    armed(moved, 60)
    armed.monitor.frames_changed(dimmer)
    armed(moved, 20)
    armed(START, 1, reacquired=True)
    armed(START, 200)
    assert armed.state is DriftState.OK
    assert armed.monitor.status.change < 0.006


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_light_that_is_not_finite_is_ignored(armed, odd):
    armed.monitor.light_changed(odd)
    assert armed(START + 0.05 * COMA, 60)


@pytest.mark.parametrize("every", [20.0, 60.0, 300.0])
def test_time_lapses(family, errors, every):
    fed = Fed(family, errors, Drift(cooldown_s=0), sigma=0.004, every=every)
    points = round(22 * max(30, every) / every)
    assert fed(START, 2 * points) == []
    assert fed.state is DriftState.OK
    (alert,) = fed(START + 0.05 * COMA, points)
    assert alert.change == pytest.approx(0.05, abs=0.01)
    assert fed.monitor.status.change == pytest.approx(0.05, abs=0.01)


def test_a_change_the_light_can_have_caused_is_no_evidence(family, errors):
    """Estimates known to 0.053 waves may creep by 0.012 as the light changes."""
    found = []
    for light in (-0.5, 0.0):
        fed = Fed(family, errors)
        fed(START, BASELINE, stated=0.02)
        fed.monitor.light_changed(light)
        found.append(len(fed(START + 0.042 * DEFOCUS, 30, stated=0.02)))
        fed(START + 0.06 * DEFOCUS, 30, stated=0.02)
        assert fed.state is DriftState.WARN
    assert found == [0, 1]


def test_a_warning_persists_in_dimmer_frames(armed):
    armed(START + 0.05 * COMA, 60)
    armed.monitor.frames_changed("the frames have become dimmer")
    assert armed(START + 0.05 * COMA, 200) == []
    assert armed.state is DriftState.WARN
    assert armed.monitor.status.change == pytest.approx(0.05, abs=0.004)


def test_stated_uncertainty_neither_hides_a_change_nor_causes_one(armed):
    """It only enters the uncertainty that the alert reports."""
    (alert, *_) = armed(START + 0.06 * COMA, 30, stated=0.05)
    assert alert.level is DriftState.WARN
    assert alert.change_sigma == pytest.approx(0.05, abs=0.003)


def test_jumping_estimates_do_not_postpone_the_baseline_forever(family, errors):
    """One jump may be the optics'; one a minute is the identification's."""
    fed = Fed(family, errors, Drift(batch_s=5, baseline_points=20), sigma=0.002)
    jump, found = np.zeros(7), []
    for _ in range(3000):
        # At random, so as not to be in phase with any batch length.
        jumped = fed.rng.random() < 1 / 40
        if jumped:
            jump = 0.03 * COMA - jump
        found += fed(START + jump, 1, reacquired=jumped)
    assert fed.state is not DriftState.BASELINING
    assert found == []


def test_change_is_debiased(family, errors):
    """White noise is measured as no change, and adds nothing to a real one."""
    fed = Fed(family, errors, Drift(batch_s=10, baseline_points=20), sigma=0.03)
    changes = []
    fed(START, 201)
    for _ in range(60):
        fed(START, 10)
        changes.append(fed.monitor.status.change)
    assert np.mean(np.square(changes)) < 0.01**2
    fed(START + 0.08 * COMA, 100)
    assert fed.monitor.status.change == pytest.approx(0.08, abs=0.015)


def test_alert_reports_what_how_much_and_since_when(armed):
    armed(START, 50)
    moved = START + 0.08 * DEFOCUS - 0.05 * COMA
    alerts = armed(moved, 30)
    alarm = alerts[-1]
    assert alarm.level is DriftState.ALARM
    assert alarm.coefficients == ("defocus", "vertical coma")
    np.testing.assert_allclose(alarm.changes, (0.08, -0.05), atol=0.003)
    assert alarm.since == pytest.approx(BASELINE + 50, abs=6)
    assert alarm.unit == "waves rms"
    assert 0.001 <= alarm.change_sigma < 0.002
    assert alarm.text.startswith("ALARM at 0:01:")
    assert f"{540 * alarm.change:.0f} ± 1 nm" in alarm.text
    assert f"({alarm.change:.3f} ± 0.00" in alarm.text
    assert "mostly defocus (+43 nm) and vertical coma (-27 nm)" in alarm.text
    assert "since about 0:01:" in alarm.text
    assert "Likely cause: " in alarm.text and "What to do: " in alarm.text
    assert alarm.remedy.endswith("re-baseline.")


def test_cause_becomes_clearer_with_time(armed):
    assert armed.monitor.assess() is None
    (alert,) = armed(START + 0.05 * COMA, 20)
    assert alert.shape == "unclear" or alert.shape == "step"
    armed(START + 0.05 * COMA, 100)
    later = armed.monitor.assess()
    assert (later.level, later.shape) == (DriftState.WARN, "step")
    assert "in a single step" in later.text and "has tilted" in later.cause


def test_tracked_session_with_ambiguous_signs(
    family, errors, covariance, identification
):
    """With the tracker: no alert while stable, and one for a step."""
    identify = identification(covariance, seed=3, ambiguous=True)
    tracker = Tracker(family, errors)
    monitor = DriftMonitor(family, QUICK, errors)
    alerts = []
    for k in range(1200):
        truth = START + 0.06 * COMA * (k >= 900)
        track = tracker.update(0.5 * k, identify(truth))
        alert = monitor.update(track)
        if alert is not None:
            alerts.append(alert)
    assert [alert.level for alert in alerts] == [DriftState.WARN]
    assert alerts[0].time == pytest.approx(450, abs=25)
    assert alerts[0].coefficients[0] == "vertical coma"
