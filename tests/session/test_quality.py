"""Quality and change, with errors; and which share of a session was watched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deepblur_live.drift import DriftState, DriftStatus, SpectralChange
from deepblur_live.session.quality import Grade, blur_quality
from deepblur_live.session.watched import Watched, WatchedTime

OK = DriftStatus(DriftState.OK, 20, 20, baseline=np.zeros(8))
FIRST = DriftStatus(
    DriftState.BASELINING,
    3,
    20,
    spectral=SpectralChange(DriftState.BASELINING, 3, 20, provisional=True),
)


def test_the_error_of_the_strehl_ratio_is_that_of_many_draws(family):
    rng = np.random.default_rng(0)
    gamma = np.array([0.07, 0.02, -0.03, 0.02, 0.0, 0.01, 0.0, 0.02])
    root = 0.012 * rng.normal(size=(8, 8)) / np.sqrt(8)
    quality = blur_quality(family, gamma, root @ root.T)
    draws = gamma + rng.normal(size=(1500, 8)) @ root.T
    found = np.array([[q.value for q in family.quality(d)] for d in draws])
    direct = np.sqrt(
        np.mean((found - [q.value for q in quality.measures]) ** 2, axis=0)
    )
    assert quality.sigmas == pytest.approx(direct, rel=0.25)
    assert quality.grade is Grade.FAIR
    assert quality.text.startswith("Strehl 0.7") and " ± 0.0" in quality.text
    assert "wavefront rms" in quality.details and "nm" in quality.details


def test_the_error_does_not_vanish_at_the_best_focus(family):
    quality = blur_quality(family, np.zeros(8), 0.04**2 * np.eye(8))
    assert quality.sigmas[1] > 0.2
    assert quality.grade is Grade.GOOD


def test_a_blur_that_may_be_good_or_poor_is_uncertain(family):
    gamma = np.eye(8)[0] * 0.1
    assert blur_quality(family, gamma, 0.06**2 * np.eye(8)).grade is Grade.UNCERTAIN
    assert blur_quality(family, 2 * gamma).grade is Grade.POOR
    assert np.isnan(blur_quality(family, gamma).sigmas).all()


def test_watched_time_counts_what_could_have_been_found():
    watched = WatchedTime()
    assert watched.so_far.text == ""
    for k in range(11):
        watched.update(k, FIRST)
    for k in range(11, 41):
        watched.update(k, OK)
    # A silence, a stretch without deblurring, and frames that cannot be judged.
    watched.update(80.0, OK)
    for k in range(81, 91):
        watched.update(k, replace(OK, state=DriftState.RAW_ONLY))
    for k in range(91, 101):
        watched.update(k, DriftStatus(DriftState.BASELINING, 0, 20))
    assert watched.so_far == Watched(100.0, 30.0, 10.0)
    assert "40 % of the time (10 % provisionally)" in watched.so_far.text


def test_a_time_lapse_is_watched_between_its_points():
    watched = WatchedTime()
    for k in range(10):
        watched.update(300.0 * k, OK)
    # Until the interval is known, a silence is one.
    assert watched.so_far.watched_s == 300.0 * 8


def test_the_bursts_of_an_mda_are_watched():
    """Eight series every 300 s, one after the other."""
    watched = WatchedTime()
    for k in range(6):
        for series in range(8):
            watched.update(300.0 * k + series, OK, series)
    # As above: until the interval is known, a silence is one.
    assert watched.so_far.watched_s == watched.so_far.total_s - 293
