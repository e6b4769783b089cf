"""Estimates after a focus sweep: agreement, contradiction, and neither."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.blur import Estimate
from deepblur_live.drift import Gaussian, random_walk
from deepblur_live.profile import Profile
from deepblur_live.runtime.pack import load_manifest
from deepblur_live.session.sweep_judge import KnownBlur, SweepJudge
from deepblur_live.session.verification import VerificationState

TOLERANCE, LARGEST = 0.036, 0.072
ERRORS = load_manifest(Profile().model.name)[1].error_model
SWEPT = np.array([0.10, 0.03, -0.02, 0.02, 0.01, 0.0, 0.0, 0.02])
EVEN = np.array([0, 1, 2, 7])


@pytest.fixture
def judged(family):
    """Return a function that judges a number of equal estimates."""

    def judge(found, sigma=0.01, *, n=3, time=100.0, trusted=True, turn_known=True):
        blur = Gaussian(100.0, SWEPT, 0.006**2 * np.eye(8))
        known = KnownBlur(blur, 0.006, turn_known, "12:03")
        judge = SweepJudge(family, ERRORS, known, TOLERANCE, LARGEST)
        estimate = Estimate(found, sigma**2 * np.eye(8), 0.5, trusted)
        decided = [judge.add(time, estimate) for _ in range(n)]
        assert all(one is None for one in decided[:-1])
        return decided[-1]

    return judge


def test_frames_that_agree_verify_the_estimates(judged):
    assert judged(SWEPT + 0.01) == (
        VerificationState.VERIFIED,
        "a focus sweep at 12:03",
    )
    assert judged(SWEPT, n=2) is None


def test_a_defocus_that_frames_do_not_see_is_named(judged):
    found = SWEPT.copy()
    found[0] = 0.02
    state, reason = judged(found)
    assert state is VerificationState.CONTRADICTED
    assert reason == (
        "the focus sweep at 12:03 measured defocus +0.100 waves rms, but the frames "
        "give +0.020"
    )


def test_what_does_not_matter_or_may_be_chance_is_no_contradiction(judged):
    # Significant, but within the tolerance.
    assert judged(SWEPT + 0.03, sigma=0.001)[0] is VerificationState.VERIFIED
    found = SWEPT.copy()
    found[0] -= 0.05
    assert judged(found, sigma=0.025)[0] is VerificationState.VERIFIED
    # A larger difference says nothing, however wide the errors.
    found[0] -= 0.03
    state, reason = judged(found, sigma=0.05, n=10)
    assert state is VerificationState.NOT_VERIFIED
    assert "differ" in reason


def test_the_sign_of_even_modes_is_forgiven(judged):
    found = SWEPT.copy()
    found[EVEN] *= -1
    assert judged(found)[0] is VerificationState.VERIFIED


def test_the_turn_is_forgiven_where_the_sweep_does_not_know_it(judged):
    # Coma large enough to tell.
    turned = SWEPT.copy()
    turned[3:7] *= -1
    turned[3] = -0.02 - 0.08
    assert judged(turned, turn_known=True)[0] is VerificationState.CONTRADICTED
    turned[3] = -0.02
    assert judged(turned, turn_known=False)[0] is VerificationState.VERIFIED


def test_earlier_frames_and_refusals_do_not_count(judged):
    assert judged(0 * SWEPT, time=99.9) is None
    assert judged(0 * SWEPT, trusted=False) is None


def test_drift_since_the_sweep_widens_the_limits(judged, family):
    found = SWEPT.copy()
    found[0] -= 0.08
    assert judged(found)[0] is VerificationState.CONTRADICTED
    hour = 3600.0
    assert np.sqrt(hour * random_walk(family)[0, 0]) > 0.08
    assert judged(found, time=100 + hour, n=10)[0] is VerificationState.NOT_VERIFIED
