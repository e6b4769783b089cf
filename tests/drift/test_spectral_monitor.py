"""The monitor of spectra: blur raises an alert, another specimen a new baseline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from spectra import ANGLE, CUTOFF, RADIUS, Specimen, gaussian

from deepblur_live.drift import DriftState
from deepblur_live.drift.spectral_monitor import SpectralMonitor
from deepblur_live.profile import Drift

# Batches of five frames, ten of which make the baseline.
QUICK = Drift(batch_s=5, baseline_points=10, cooldown_s=0)
BASELINE = 51
SHARP, SOFT = gaussian(1.2), gaussian(1.3)


class Fed:
    """A monitor fed with a frame a second."""

    def __init__(self, settings: Drift = QUICK) -> None:
        self.monitor, self.time = SpectralMonitor(CUTOFF, settings), 0

    def __call__(self, specimen: Specimen, blur, n: int, **changes) -> int:
        """Feed n frames; return the number of alerts."""
        alerts = 0
        for _ in range(n):
            frame = replace(specimen.frame(blur), **changes)
            alerts += self.monitor.update(self.time, frame)
            self.time += 1
        return alerts

    @property
    def status(self):
        return self.monitor.status


@pytest.fixture
def armed() -> Fed:
    fed = Fed()
    assert fed(Specimen(), SHARP, BASELINE - 1) == 0
    assert not fed.monitor.armed
    fed(Specimen(), SHARP, 6)
    assert fed.status.state is DriftState.OK
    return fed


def test_nothing_happens_while_nothing_changes(armed):
    assert armed(Specimen(), SHARP, 300) == 0
    assert armed.status.state is DriftState.OK
    assert armed.status.strength < 0.01
    assert armed.status.test < 1
    assert armed.status.residual == pytest.approx(1, abs=0.5)


def test_a_softer_picture_raises_an_alert(armed):
    assert armed(Specimen(), SOFT, 60) >= 1
    status = armed.status
    assert status.state in (DriftState.WARN, DriftState.ALARM)
    assert status.sharpening < -3 * status.sharpening_sigma
    assert status.test > 1 and status.residual < 3


def test_a_sharper_picture_raises_one_too(armed):
    assert armed(Specimen(), gaussian(1.1), 60) >= 1
    assert armed.status.sharpening > 0.02


def test_light_and_noise_raise_none(armed):
    assert armed(Specimen(light=0.7), SHARP, 60) == 0
    assert armed(Specimen(light=0.7, noise=0.02), SHARP, 60) == 0
    assert armed.status.state is DriftState.OK


def test_another_specimen_starts_a_new_baseline_that_keeps_the_change(armed):
    armed(Specimen(), SOFT, 60)
    before, level = armed.status.strength, armed.status.state
    another = Specimen(seed=1, coherence=0.05)
    armed(another, SOFT, 16)
    assert not armed.monitor.armed
    assert "specimen has changed" in armed.status.reason
    # The warning persists meanwhile.
    assert armed.status.state is level
    armed(another, SOFT, 70)
    assert armed.status.strength == pytest.approx(before, rel=0.2)
    # Repaired: back at the first baseline's blur.
    armed(another, SHARP, 60)
    assert armed.status.strength < 0.3 * before
    assert armed.status.state is DriftState.OK


def test_rebaseline_discards_the_change(armed):
    armed(Specimen(), SOFT, 60)
    armed.monitor.rebaseline()
    armed(Specimen(), SOFT, 70)
    assert armed.status.state is DriftState.OK
    assert armed.status.strength < 0.01


def test_cells_that_move_are_another_specimen_only_where_they_were_at_rest(armed):
    # Half coherent with the first frame, and not smooth: not a change of the blur.
    moved = Specimen(seed=2, coherence=0.7)
    assert armed(moved, SHARP, 16) == 0
    assert not armed.monitor.armed


def test_a_passing_bubble_changes_nothing(armed):
    assert armed(Specimen(seed=3, coherence=0.1), gaussian(3), 5) == 0
    assert armed(Specimen(), SHARP, 30) == 0
    assert armed.monitor.armed
    assert armed.status.state is DriftState.OK


def test_a_specimen_that_leaves_the_window_is_followed_by_a_new_baseline(armed):
    armed(Specimen(), SHARP, 1, reference=1)
    assert not armed.monitor.armed
    assert "another place" in armed.status.reason


def test_a_moving_specimen_is_watched():
    fed, specimen = Fed(), Specimen(moving=0.5, coherence=0.3)
    assert fed(specimen, SHARP, 300) == 0
    assert fed.monitor.armed
    assert fed(specimen, gaussian(1.4), 100) >= 1
    assert fed.status.sharpening < 0


def test_frames_of_noise_are_not_watched():
    fed = Fed()
    fed(Specimen(noise=1e7), SHARP, 80)
    assert not fed.monitor.armed
    assert "above the noise" in fed.status.reason


def test_correlated_batches_are_lengthened():
    # Every shape of the spectrum wanders: from batch to batch by more than the noise.
    fed = Fed(Drift(batch_s=5, baseline_points=20))
    # A specimen that moves: one at rest is watched provisionally meanwhile.
    rng, specimen = np.random.default_rng(1), Specimen(coherence=0.6)
    shapes = [
        (RADIUS / 0.5) ** k * np.cos(m * ANGLE + p)
        for k, m in ((1, 0), (2, 0), (3, 0), (2, 2), (3, 2), (2, 4), (3, 4), (3, 6))
        for p in (0, 1)
    ]
    for _ in range(23):
        wander = np.tensordot(rng.normal(0, 0.5, 16), shapes, 1)
        specimen.own = specimen.own * np.exp(wander)
        fed(specimen, SHARP, 5)
    assert not fed.monitor.armed
    assert "correlated" in fed.status.reason


def test_a_change_within_the_scatter_of_the_baseline_says_why_it_raises_nothing():
    fed, specimen = Fed(), Specimen(coherence=0.6)
    widths = iter(np.linspace(1.2, 1.35, BASELINE + 5))
    for width in widths:
        fed(specimen, gaussian(width), 1)
    assert fed(specimen, gaussian(1.4), 20) == 0
    assert fed.status.strength > QUICK.warn_contrast
    assert fed.status.state is DriftState.OK
    assert "but not certain yet" in fed.status.reason


def test_a_change_is_found_while_the_baseline_is_made_and_carried_into_the_next():
    fed = Fed()
    assert fed(Specimen(), SHARP, 20) == 0
    status = fed.status
    assert status.provisional and status.state is DriftState.BASELINING
    # Ten batches of five seconds, of which nearly four have passed.
    assert status.sure_in_s == pytest.approx(31, abs=1)
    assert 0 < status.least < 0.3
    assert fed(Specimen(), SOFT, 20) == 1
    assert fed.status.state in (DriftState.WARN, DriftState.ALARM)
    assert fed.monitor.since == pytest.approx(20, abs=1)
    assert fed.status.sharpening < 0
    assert fed.monitor.restarts == 1 and not fed.monitor.armed
    # The baseline that follows is of the soft pictures; the change is not forgotten.
    fed(Specimen(), SOFT, 70)
    assert fed.monitor.armed and not fed.status.provisional
    assert fed.status.sure_in_s == 0
    assert fed.status.state in (DriftState.WARN, DriftState.ALARM)
    direct = Fed()
    direct(Specimen(), SHARP, 60)
    direct(Specimen(), SOFT, 60)
    assert fed.status.strength == pytest.approx(direct.status.strength, rel=0.3)
    fed(Specimen(), SHARP, 60)
    assert fed.status.state is DriftState.OK


def test_a_repair_while_the_baseline_is_made_clears_the_warning():
    fed = Fed()
    fed(Specimen(), SHARP, 20)
    fed(Specimen(), SOFT, 14)
    assert fed.status.state in (DriftState.WARN, DriftState.ALARM)
    fed(Specimen(), SOFT, 14)
    assert fed.status.state in (DriftState.WARN, DriftState.ALARM)
    # Found within a few frames; the level ends when it has been confirmed.
    fed(Specimen(), SHARP, 36)
    assert fed.status.state is DriftState.BASELINING
    assert fed.monitor.restarts == 2


def test_a_specimen_that_moves_is_not_judged_provisionally():
    fed = Fed()
    fed(Specimen(coherence=0.6), SHARP, 20)
    fed(Specimen(coherence=0.6), SOFT, 20)
    assert not fed.status.provisional
    assert fed.status.state is DriftState.BASELINING


def test_another_specimen_within_the_baseline_is_no_change_of_the_blur():
    fed = Fed()
    assert fed(Specimen(), SHARP, 20) == 0
    assert fed(Specimen(seed=1, coherence=0.05), SOFT, 20) == 0
    assert fed.status.state is DriftState.BASELINING


RAISED = (DriftState.WARN, DriftState.ALARM)
# As in the demo: the charts need several points before they signal.
FEW = Drift(batch_s=4, baseline_points=4, false_alarm_hours=2)


@pytest.mark.parametrize(
    ("settings", "specimen", "blur", "wider"),
    [
        (FEW, Specimen(), SOFT, 1.0),
        (QUICK, Specimen(moving=0.5, coherence=0.3), gaussian(1.25), 1.5),
    ],
    ids=["charts without a signal", "a specimen that moves"],
)
def test_no_limit_is_in_force_that_an_unchanged_state_exceeds(
    settings, specimen, blur, wider
):
    fed, above = Fed(settings), set()
    for k in range(160):
        fed(specimen, SHARP if k < 60 else blur, 1)
        status = fed.status
        if status.state not in RAISED:
            assert not status.strength >= status.limits.warn
            if status.strength >= settings.warn_contrast:
                above.add(status.reason)
    # The case is there, with its reason.
    assert above and all(above)
    assert fed.monitor.armed
    if status.state in RAISED:
        assert status.limits == (0.03 * wider, 0.08 * wider)


def test_limits_in_force_are_wider_while_they_are_provisional():
    fed, specimen = Fed(Drift()), Specimen()
    fed(specimen, SHARP, 5)
    assert np.isnan(fed.status.limits).all()
    fed(specimen, SHARP, 7)
    least = fed.status.least
    assert 0.03 < least < 0.08
    assert fed.status.limits == (least, 0.08)
    fed(specimen, SHARP, 148)
    assert fed.status.provisional and fed.status.least < 0.03
    assert fed.status.limits == (0.03, 0.08)


def test_a_provisional_level_is_kept_by_the_profiles_limits():
    fed, specimen = Fed(Drift()), Specimen()
    fed(specimen, SHARP, 20)
    assert fed(specimen, gaussian(1.25), 20) == 1
    # A new baseline has begun, for which nothing would be certain yet.
    fed(specimen, gaussian(1.25), 13)
    status = fed.status
    assert status.state is DriftState.WARN and status.provisional
    assert status.limits.warn == 0.03 <= status.strength
    # To be certain, a further change has to be as large as that.
    assert status.limits.alarm == max(0.08, status.least)
