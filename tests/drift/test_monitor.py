"""The watch over the optics: what alerts, what does not, and what it says."""

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

    def __init__(self, family, settings=QUICK, sigma=0.001, seed=0, every=1.0) -> None:
        self.every = every
        self.monitor = DriftMonitor(family, settings, wavelength_nm=540.0)
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
def fed(family) -> Fed:
    return Fed(family)


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
        assert np.isnan(status.change_waves)
        fed(START, 5 if done else 6)
    status = fed.monitor.status
    assert status.state is DriftState.OK
    assert status.n_baseline == 10
    np.testing.assert_allclose(status.baseline, START, atol=0.001)
    assert status.wavefront_rms == pytest.approx(np.linalg.norm(START), abs=0.003)
    assert status.lag_one < 0.35


def test_estimates_that_hop_by_more_than_they_state_are_not_watched(fed):
    """Refused by the tracker's gate or not: what hops is no baseline."""
    for hop in (0.0, 0.03) * BASELINE:
        fed(START + hop * COMA, 1, nis=40.0, accepted=hop == 0)
    status = fed.monitor.status
    assert status.state is DriftState.BASELINING
    assert "hop by more than they state" in status.reason
    # Once they have been still for as long as a baseline takes, they are watched.
    fed(START, 2 * BASELINE)
    assert fed.state is DriftState.OK
    assert fed.monitor.status.reason == ""


def test_a_specimen_that_tells_too_little_is_not_watched(fed):
    # Seven modes of 0.03 waves: 0.079 of the wavefront, an alarm is 0.072.
    fed(START, 2 * BASELINE, stated=0.03)
    status = fed.monitor.status
    assert status.state is DriftState.BASELINING
    assert "± 0.08 waves" in status.reason
    assert fed(START + 0.2 * DEFOCUS, 60, stated=0.03) == []
    fed.monitor.specimen_changed()
    # Another one tells more.
    fed(START, BASELINE, stated=0.02)
    assert fed.state is DriftState.OK
    assert fed.monitor.status.reason == ""


def test_refused_points_bring_no_evidence(armed):
    before = armed.monitor.status
    armed(START + 0.2, 60, accepted=False)
    armed(np.full(7, np.nan), 5)
    assert armed.monitor.status is before


def test_step_within_the_baseline_starts_it_anew(fed):
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
def test_still_session_is_quiet_whatever_its_noise(family, sigma):
    fed = Fed(family, sigma=sigma)
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
    assert alarm.modes == ("vertical coma",)
    assert alarm.mode_changes[0] == pytest.approx(0.073, abs=0.004)
    assert alarm.shape == "ramp"
    assert "tilts slowly" in alarm.cause
    assert alarm.cause in alarm.text and alarm.remedy in alarm.text
    # 0.08 waves in 600 s are 43 nm in ten minutes.
    assert "steadily by 4" in alarm.text


def test_a_ramp_of_many_hours_is_a_ramp(armed):
    """Longer than the course holds points one by one."""
    alerts = []
    for second in range(4000):
        alerts += armed(START + 2e-5 * second * COMA, 1)
    assert [alert.shape for alert in alerts] == ["ramp", "ramp"]
    # 0.00002 waves a second are 6.5 nm in ten minutes.
    assert "steadily by 6 nm in ten minutes" in alerts[1].text


@pytest.mark.parametrize("reset", ["frames_changed", "specimen_changed"])
def test_a_standing_alarm_outlasts_a_new_baseline_and_refused_estimates(armed, reset):
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


def test_a_snooze_counts_from_now_though_nothing_was_told_lately(armed):
    armed(START, 200, accepted=False)
    armed.monitor.snooze(60)
    armed(START, 1)
    assert armed.monitor.status.snoozed_until == pytest.approx(armed.time + 60, abs=2)


def test_change_below_the_floor_is_no_alert_though_evident(armed):
    assert armed(START + 0.02 * COMA, 300) == []
    status = armed.monitor.status
    assert status.state is DriftState.OK
    assert status.evidence >= 1.0
    assert status.change_waves == pytest.approx(0.02, abs=0.003)


def test_size_without_evidence_is_no_alert(family):
    """One wild second is large, and yet the charts do not believe it."""
    fed = Fed(family, sigma=0.02)
    fed(START, BASELINE)
    assert fed(START + 1.0 * COMA, 1) + fed(START, 60) == []


def test_step_is_found_within_a_few_points(armed):
    (alert,) = armed(START + 0.05 * DEFOCUS, 16)
    assert alert.level is DriftState.WARN
    assert alert.since == pytest.approx(BASELINE, abs=6)


def test_twin_flips_are_no_change(family, armed):
    flipped = np.where(family.even, -START, START)
    for _ in range(30):
        assert armed(flipped, 1) + armed(START, 3) + armed(flipped, 7) == []
    assert armed.monitor.status.change_waves < 0.003


def test_baseline_takes_one_twin(family, fed):
    flipped = np.where(family.even, -START, START)
    for _ in range(13):
        fed(START, 1)
        fed(flipped, 3)
    np.testing.assert_allclose(fed.monitor.status.baseline, START, atol=0.002)


def test_estimates_too_alike_make_longer_points(family):
    """The memory of a running average of 10 s: points of 5 s repeat one another."""
    fed = Fed(family, Drift(batch_s=5, baseline_points=20), sigma=0.0)
    wander = np.zeros(7)
    for _ in range(3000):
        wander = 0.9 * wander + fed.rng.normal(0, 0.004, 7)
        assert fed(START + wander, 1) == []
        if fed.state is DriftState.OK:
            break
    assert fed.state is DriftState.OK
    # A hundred seconds would do if they were independent.
    assert fed.time >= 300
    assert fed.monitor.status.lag_one <= 0.35


def test_charts_are_not_armed_on_what_never_forgets(family):
    fed = Fed(family, Drift(batch_s=1, baseline_points=10), sigma=0.0)
    wander = np.zeros(7)
    for _ in range(1500):
        # Waves of 100 s: alike from point to point, at every length tried.
        wander = 0.04 * np.sin(2 * np.pi * (fed.time / 100 + np.arange(7) / 7))
        assert fed(START + wander, 1) == []
    status = fed.monitor.status
    assert status.state is DriftState.BASELINING
    assert status.reason.startswith("not armed")
    assert status.lag_one > 0.35


def test_missing_frames_and_an_uneven_clock(family):
    fed = Fed(family)
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


def test_cool_down(family):
    fed = Fed(family, QUICK.model_copy(update={"cooldown_s": 300.0}))
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


def test_snooze_keeps_quiet_and_tells_afterwards(armed):
    armed.monitor.snooze(120)
    until = armed.monitor.status.snoozed_until
    assert until == BASELINE - 1 + 120
    assert armed(START + 0.05 * COMA, 60) == []
    assert armed.state is DriftState.WARN
    (alert,) = armed(START + 0.05 * COMA, 80)
    assert until <= alert.time < until + 6
    assert armed.monitor.status.snoozed_until is None
    # One that is seen, or over, by then is not told.
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
    assert np.isnan(status.change_waves)
    assert armed(START + 0.1 * COMA, 200) == []
    assert armed.state is DriftState.OK
    np.testing.assert_allclose(
        armed.monitor.status.baseline, START + 0.1 * COMA, atol=0.002
    )


def test_another_specimen_is_no_change(armed):
    """Its systematic error is another: 0.08 waves that are not the optics'."""
    armed.monitor.specimen_changed("the stage has moved")
    status = armed.monitor.status
    assert (status.state, status.reason) == (
        DriftState.BASELINING,
        "the stage has moved",
    )
    elsewhere = START + 0.08 * COMA - 0.05 * DEFOCUS
    assert armed(elsewhere, 300) == []
    assert armed.state is DriftState.OK
    assert armed.monitor.status.change_waves < 0.005
    (alert,) = armed(elsewhere + 0.05 * DEFOCUS, 30)
    assert alert.modes == ("defocus",)


def test_known_change_is_carried_to_another_specimen(armed):
    moved = START + 0.05 * COMA
    assert len(armed(moved, 60)) == 1
    armed.monitor.specimen_changed()
    armed(moved - 0.1 * DEFOCUS, 20)
    # It stands while the new place is learned.
    assert armed.state is DriftState.WARN
    armed(moved - 0.1 * DEFOCUS, 200)
    assert armed.state is DriftState.WARN
    assert armed.monitor.status.change_waves == pytest.approx(0.05, abs=0.004)
    (alert,) = armed(START + 0.09 * COMA - 0.1 * DEFOCUS, 30)
    assert alert.level is DriftState.ALARM
    assert alert.change_waves == pytest.approx(0.09, abs=0.005)


def dimmed(fed, stated):
    """Let the frames lose a third of their light while 0.03 waves come, four times."""
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


def test_what_creeps_with_the_brightness_is_no_change(fed):
    """Estimates known to 0.053 waves: all of it evident and none of it told."""
    assert dimmed(fed, 0.02) == []
    assert fed.state is DriftState.OK
    assert fed.monitor.status.change_waves < 0.005


def test_a_drift_adds_up_while_the_light_goes(fed):
    """Estimates known to 0.003 waves cannot have crept by as much as 0.03."""
    warning, alarm = dimmed(fed, 0.001)
    assert (warning.level, alarm.level) == (DriftState.WARN, DriftState.ALARM)
    assert fed.monitor.status.change_waves == pytest.approx(0.12, abs=0.005)


def test_what_was_carried_on_ends_with_its_repair(armed):
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
    assert armed.monitor.status.change_waves < 0.005
    # Within a baseline a repair is a jump.
    armed(moved, 60)
    armed.monitor.frames_changed(dimmer)
    armed(moved, 20)
    armed(START, 1, reacquired=True)
    armed(START, 200)
    assert armed.state is DriftState.OK
    assert armed.monitor.status.change_waves < 0.006


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_light_that_is_no_number_hides_nothing(armed, odd):
    armed.monitor.light_changed(odd)
    assert armed(START + 0.05 * COMA, 60)


@pytest.mark.parametrize("every", [20.0, 60.0, 300.0])
def test_a_time_lapse_is_watched_as_well(family, every):
    fed = Fed(family, Drift(cooldown_s=0), sigma=0.004, every=every)
    points = round(22 * max(30, every) / every)
    assert fed(START, 2 * points) == []
    assert fed.state is DriftState.OK
    (alert,) = fed(START + 0.05 * COMA, points)
    assert alert.change_waves == pytest.approx(0.05, abs=0.01)
    assert fed.monitor.status.change_waves == pytest.approx(0.05, abs=0.01)


def test_what_the_light_may_have_made_is_no_evidence(family):
    """Estimates known to 0.053 waves may creep by 0.012 while a third of it goes."""
    found = []
    for light in (-0.5, 0.0):
        fed = Fed(family)
        fed(START, BASELINE, stated=0.02)
        fed.monitor.light_changed(light)
        found.append(len(fed(START + 0.042 * DEFOCUS, 30, stated=0.02)))
        fed(START + 0.06 * DEFOCUS, 30, stated=0.02)
        assert fed.state is DriftState.WARN
    assert found == [0, 1]


def test_a_change_that_was_told_stands_in_dimmer_frames(armed):
    armed(START + 0.05 * COMA, 60)
    armed.monitor.frames_changed("the frames have become dimmer")
    assert armed(START + 0.05 * COMA, 200) == []
    assert armed.state is DriftState.WARN
    assert armed.monitor.status.change_waves == pytest.approx(0.05, abs=0.004)


def test_what_estimates_state_neither_hides_a_change_nor_makes_one(armed):
    """Other optics are told better or worse; only the alert's own words say so."""
    (alert, *_) = armed(START + 0.06 * COMA, 30, stated=0.05)
    assert alert.level is DriftState.WARN
    assert alert.uncertainty == pytest.approx(0.05, abs=0.003)


def test_estimates_that_hop_do_not_put_the_baseline_off_for_ever(family):
    """One jump is the optics'; one every minute is the identification's."""
    fed = Fed(family, Drift(batch_s=5, baseline_points=20), sigma=0.002)
    hop, found = np.zeros(7), []
    for _ in range(3000):
        # At random, so that no length of points is in step with it.
        jumped = fed.rng.random() < 1 / 40
        if jumped:
            hop = 0.03 * COMA - hop
        found += fed(START + hop, 1, reacquired=jumped)
    assert fed.state is not DriftState.BASELINING
    assert found == []


def test_change_is_debiased(family):
    """White noise of known size reads as no change, and adds none to a real one."""
    fed = Fed(family, Drift(batch_s=10, baseline_points=20), sigma=0.03)
    changes = []
    fed(START, 201)
    for _ in range(60):
        fed(START, 10)
        changes.append(fed.monitor.status.change_waves)
    assert np.mean(np.square(changes)) < 0.01**2
    fed(START + 0.08 * COMA, 100)
    assert fed.monitor.status.change_waves == pytest.approx(0.08, abs=0.015)


def test_alert_says_what_how_much_and_since_when(armed):
    armed(START, 50)
    moved = START + 0.08 * DEFOCUS - 0.05 * COMA
    alerts = armed(moved, 30)
    alarm = alerts[-1]
    assert alarm.level is DriftState.ALARM
    assert alarm.modes == ("defocus", "vertical coma")
    np.testing.assert_allclose(alarm.mode_changes, (0.08, -0.05), atol=0.003)
    assert alarm.since == pytest.approx(BASELINE + 50, abs=6)
    assert alarm.change_nm == pytest.approx(540 * alarm.change_waves)
    assert 0.001 <= alarm.uncertainty < 0.002
    assert alarm.text.startswith("ALARM at 0:01:")
    assert f"{alarm.change_nm:.0f} ± 1 nm rms" in alarm.text
    assert f"({alarm.change_waves:.3f} ± 0.00" in alarm.text
    assert "mostly defocus (+43 nm) and vertical coma (-27 nm)" in alarm.text
    assert "since about 0:01:" in alarm.text
    assert "Likely cause: " in alarm.text and "What to do: " in alarm.text
    assert alarm.remedy.endswith("re-baseline.")


def test_cause_gets_clearer_with_time(armed):
    assert armed.monitor.assess() is None
    (alert,) = armed(START + 0.05 * COMA, 20)
    assert alert.shape == "unclear" or alert.shape == "step"
    armed(START + 0.05 * COMA, 100)
    later = armed.monitor.assess()
    assert (later.level, later.shape) == (DriftState.WARN, "step")
    assert "all at once" in later.text and "has tilted" in later.cause


def test_tracked_session_with_random_twins(family, covariance, identification):
    """Through the real tracker: quiet while still, and a step is told once."""
    identify = identification(covariance, seed=3, twins=True)
    tracker = Tracker(family, averaging_s=0.0)
    monitor = DriftMonitor(family, QUICK, wavelength_nm=540.0)
    alerts = []
    for k in range(1200):
        truth = START + 0.06 * COMA * (k >= 900)
        track = tracker.update(0.5 * k, identify(truth))
        alert = monitor.update(track)
        if alert is not None:
            alerts.append(alert)
    assert [alert.level for alert in alerts] == [DriftState.WARN]
    assert alerts[0].time == pytest.approx(450, abs=25)
    assert alerts[0].modes[0] == "vertical coma"
