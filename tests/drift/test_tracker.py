"""The Kalman tracker against closed forms, right covariances, twins and steps."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from deepblur_live.drift import Tracker
from deepblur_live.optics import Estimate, ZernikeFamily

TINY = 1e-9
# Estimates whose errors are new each time, and as large as they say.
INDEPENDENT = {"systematic": 0.0, "fluctuating": 1.0}


def estimate(coefficients, sigma=0.01, trusted=True) -> Estimate:
    coefficients = np.asarray(coefficients, float)
    covariance = np.eye(len(coefficients)) * sigma**2
    return Estimate(coefficients, covariance, 1.0, trusted, "" if trusted else "flat")


def random_walk(rng, start, diffusion, dt, n):
    steps = rng.normal(0, diffusion * np.sqrt(dt), (n, len(start)))
    return start + np.cumsum(steps, axis=0)


def test_steady_state_is_the_closed_form(family):
    diffusion, sigma, dt = 0.004, 0.012, 0.5
    tracker = Tracker(family, diffusion=diffusion, floor=TINY, **INDEPENDENT)
    truth = np.full(7, 0.05)
    for k in range(400):
        track = tracker.update(k * dt, estimate(truth, sigma))
    q, r = diffusion**2 * dt, sigma**2
    predicted = (q + np.sqrt(q * q + 4 * q * r)) / 2
    gain = predicted / (predicted + r)
    np.testing.assert_allclose(
        track.covariance, np.eye(7) * (1 - gain) * predicted, rtol=1e-6, atol=1e-15
    )
    # One estimate, moved by 1 milliwave, moves the track by the gain.
    moved = tracker.update(400 * dt, estimate(truth + 0.001, sigma))
    np.testing.assert_allclose(
        moved.coefficients - track.coefficients, gain * 0.001, rtol=1e-6
    )


def test_nis_and_bands_are_as_stated(family, covariance, identification):
    rng = np.random.default_rng(3)
    diffusion, dt, n = 0.003, 0.5, 4000
    tracker = Tracker(
        family, diffusion=diffusion, floor=TINY, gate=0.99999, **INDEPENDENT
    )
    identify = identification(covariance, seed=8)
    truth = random_walk(rng, np.full(7, 0.1), diffusion, dt, n)
    nis, scores = [], []
    for k in range(n):
        track = tracker.update(k * dt, identify(truth[k]))
        nis.append(track.nis)
        scores.append(
            (track.coefficients - truth[k]) / np.sqrt(np.diag(track.covariance))
        )
    # χ² of 7 degrees of freedom has variance 14: three standard errors of the mean.
    assert np.mean(nis[1:]) == pytest.approx(7, abs=3 * np.sqrt(14 / n))
    assert np.mean(np.abs(scores) < 1) == pytest.approx(0.6827, abs=0.02)
    assert np.mean(np.abs(scores) < 1.96) == pytest.approx(0.95, abs=0.01)


def test_averaged_estimates_keep_honest_bands(family, covariance):
    """Estimates that share 10 frames of noise, as a running average makes them."""
    rng = np.random.default_rng(4)
    dt, n, window = 0.5, 6000, 10
    noise = rng.multivariate_normal(np.zeros(7), covariance * window, n + window)
    summed = np.cumsum(noise, axis=0)
    shared = (summed[window:] - summed[:-window]) / window
    truth = random_walk(rng, np.full(7, 0.1), 0.001, dt, n)

    def inside(averaging_s: float) -> float:
        tracker = Tracker(
            family,
            diffusion=0.001,
            floor=TINY,
            averaging_s=averaging_s,
            gate=0.99999,
            **INDEPENDENT,
        )
        hits = []
        for k in range(n):
            track = tracker.update(
                k * dt, Estimate(truth[k] + shared[k], covariance, 1)
            )
            error = np.abs(track.coefficients - truth[k])
            hits.append(error < np.sqrt(np.diag(track.covariance)))
        return float(np.mean(hits))

    assert inside(averaging_s=0.0) < 0.5
    assert inside(averaging_s=window * dt) == pytest.approx(0.68, abs=0.08)


def test_systematic_error_stays_in_the_bands(family, covariance):
    """Every estimate wrong by the same draw: the bands hold it, however long."""
    rng = np.random.default_rng(5)
    share = 3.0
    hits, still = [], []
    for _ in range(100):
        # The systematic part a specimen has once, the fluctuation every estimate.
        bias = rng.multivariate_normal(np.zeros(7), share * covariance)
        tracker = Tracker(family, diffusion=1e-4, floor=TINY, systematic=share)
        truth = np.full(7, 0.1)
        for k in range(40):
            noise = rng.multivariate_normal(np.zeros(7), 0.25 * covariance)
            found = Estimate(truth + bias + noise, covariance, 1.0)
            track = tracker.update(0.5 * k, found)
        band = np.sqrt(np.diag(track.covariance))
        hits.append(np.abs(track.coefficients - truth) < band)
        still.append(np.abs(track.coefficients - truth - bias) / band)
    assert np.mean(hits) == pytest.approx(0.683, abs=0.05)
    # The fluctuation has been averaged away all the same.
    assert np.mean(still) < 0.2


def test_systematic_share_does_not_slow_the_track(family):
    """A ramp of 3 milliwaves a second is followed, though each estimate claims 0.03."""

    def lag(fluctuating: float) -> float:
        tracker = Tracker(family, fluctuating=fluctuating, averaging_s=5.0)
        for k in range(61):
            truth = np.full(7, 0.05)
            truth[3] += 0.003 * 0.5 * max(0, k - 40)
            track = tracker.update(0.5 * k, estimate(truth, sigma=0.03))
        return float((truth - track.coefficients)[3] / 0.003)

    assert lag(0.1) < 0.8 * lag(1.0)


def test_measured_is_the_estimate_in_the_tracks_twin(family):
    tracker = Tracker(family)
    truth = np.array([0.05, 0.03, -0.04, 0.02, 0.0, 0.01, -0.02])
    tracker.update(0.0, estimate(truth))
    twin = np.where(family.even, -truth - 0.002, truth + 0.002)
    track = tracker.update(1.0, estimate(twin))
    np.testing.assert_allclose(track.measured, np.where(family.even, -twin, twin))
    assert tracker.update(2.0, estimate(truth, trusted=False)).measured is None
    assert tracker.update(3.0, estimate(truth + 0.2)).measured is None


def test_floor_adds_the_model_error(family):
    tracker = Tracker(family, floor=0.02)
    track = tracker.update(0.0, estimate(np.full(7, 0.05), sigma=0.0))
    np.testing.assert_allclose(track.covariance, np.eye(7) * 4e-4, atol=1e-12)


def test_first_state_is_canonical_with_its_covariance(family, covariance):
    gamma = np.array([-0.1, 0.05, 0.02, 0.03, -0.04, 0.01, 0.0])
    tracker = Tracker(family, floor=TINY, systematic=2.0, fluctuating=0.5)
    track = tracker.update(0.0, Estimate(gamma, covariance, 1.0))
    signs = np.where(family.even, -1.0, 1.0)
    np.testing.assert_allclose(track.coefficients, signs * gamma)
    np.testing.assert_allclose(
        track.covariance, signs[:, None] * 2.5 * covariance * signs, atol=1e-12
    )
    assert track.accepted
    assert np.isnan(track.nis)


@pytest.mark.parametrize("canonicalised", [True, False])
def test_defocus_through_zero_has_no_jump(
    family, covariance, identification, canonicalised
):
    n, dt = 241, 0.5
    truth = np.tile([0.0, 0.08, -0.05, 0.03, 0.0, 0.04, -0.02], (n, 1))
    truth[:, 0] = np.linspace(0.12, -0.12, n)
    identify = identification(covariance, seed=5, twins=not canonicalised)
    tracker = Tracker(family, averaging_s=0.0)
    tracked = []
    for k in range(n):
        found = identify(truth[k])
        if canonicalised and found.coefficients[0] < 0:
            signs = np.where(family.even, -1.0, 1.0)
            found = Estimate(
                signs * found.coefficients,
                signs[:, None] * found.covariance * signs,
                1.0,
            )
        track = tracker.update(k * dt, found)
        assert track.accepted or track.nis > 24
        tracked.append(track.coefficients)
    tracked = np.array(tracked)
    assert np.abs(np.diff(tracked, axis=0)).max() < 0.02
    assert np.abs(tracked - truth).max() < 0.035
    assert np.abs(tracked - truth).mean() < 0.006


def test_lone_outlier_is_refused(family):
    tracker = Tracker(family)
    truth = np.full(7, 0.05)
    for k in range(20):
        before = tracker.update(float(k), estimate(truth))
    refused = tracker.update(20.0, estimate(truth + 0.1))
    assert not refused.accepted
    assert refused.nis > 24
    np.testing.assert_array_equal(refused.coefficients, before.coefficients)
    assert np.trace(refused.covariance) > np.trace(before.covariance)
    assert tracker.update(21.0, estimate(truth)).accepted


def test_step_is_reacquired_and_said(family, caplog):
    tracker = Tracker(family, reacquire_after=3)
    truth = np.full(7, 0.05)
    for k in range(20):
        tracker.update(float(k), estimate(truth))
    stepped = truth + np.array([0.1, 0, 0, -0.05, 0, 0, 0])
    rng = np.random.default_rng(6)
    with caplog.at_level(logging.INFO, "deepblur_live.drift"):
        states = [
            tracker.update(20.0 + k, estimate(stepped + rng.normal(0, 0.01, 7)))
            for k in range(3)
        ]
    assert [state.accepted for state in states] == [False, False, True]
    assert [state.reacquired for state in states] == [False, False, True]
    assert np.abs(states[-1].coefficients - stepped).max() < 0.03
    assert "stepped at 22.0 s" in caplog.text
    assert not tracker.update(23.0, estimate(stepped)).reacquired


def test_step_waits_for_the_average_to_be_past_it(family):
    tracker = Tracker(family, averaging_s=5.0)
    for k in range(20):
        tracker.update(0.5 * k, estimate(np.full(7, 0.05)))
    times = 10.0 + 0.5 * np.arange(12)
    taken = [tracker.update(t, estimate(np.full(7, 0.15))).accepted for t in times]
    assert times[taken.index(True)] == pytest.approx(15.0)


def test_scattered_outliers_never_take_over(family):
    tracker = Tracker(family)
    truth = np.full(7, 0.05)
    tracker.update(0.0, estimate(truth))
    rng = np.random.default_rng(7)
    for k in range(1, 60):
        track = tracker.update(0.1 * k, estimate(rng.uniform(-0.5, 0.5, 7)))
        assert not track.reacquired
    assert np.abs(track.coefficients - truth).max() < 0.05


def test_step_to_the_other_twin_keeps_the_sign(family):
    """A step whose estimates name now one twin, now the other, is one step."""
    tracker = Tracker(family)
    truth = np.array([0.06, 0.05, -0.05, 0.0, 0.0, 0.0, 0.0])
    for k in range(10):
        tracker.update(float(k), estimate(truth))
    stepped = truth + np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    for k in range(3):
        track = tracker.update(10.0 + k, estimate(stepped * (-1) ** k))
    assert track.reacquired
    np.testing.assert_allclose(track.coefficients, stepped, atol=1e-9)


def test_untrusted_and_unfinite_estimates_never_update(family):
    tracker = Tracker(family)
    assert tracker.update(0.0, estimate(np.zeros(7), trusted=False)) is None
    assert tracker.predict(1.0) is None
    before = tracker.update(1.0, estimate(np.full(7, 0.05)))
    infinite = np.full(7, 0.05)
    infinite[2] = np.inf
    for bad in (estimate(np.full(7, 0.06), trusted=False), estimate(infinite)):
        after = tracker.update(2.0, bad)
        assert not after.accepted
        assert np.isnan(after.nis)
        np.testing.assert_array_equal(after.coefficients, before.coefficients)
    assert after.time == 2.0


def test_uneven_clock(family):
    """A gap grows the covariance by its length, and time never runs backwards."""
    diffusion = 0.003
    tracker = Tracker(family, diffusion=diffusion)
    start = tracker.update(10.0, estimate(np.full(7, 0.05)))
    ahead = tracker.predict(110.0)
    np.testing.assert_allclose(
        ahead.covariance - start.covariance, np.eye(7) * diffusion**2 * 100, atol=1e-15
    )
    assert tracker.predict(10.0).covariance is not None
    back = tracker.update(4.0, estimate(np.full(7, 0.05)))
    assert back.time == 10.0
    assert back.accepted
    assert np.linalg.eigvalsh(back.covariance).min() > 0
    # Two halves of a gap are one gap.
    whole, halves = Tracker(family), Tracker(family)
    for one in (whole, halves):
        one.update(0.0, estimate(np.full(7, 0.05)))
    halves.update(3.0, estimate(np.full(7, 0.05), trusted=False))
    np.testing.assert_allclose(
        whole.predict(9.0).covariance, halves.predict(9.0).covariance
    )


def test_indefinite_covariance_is_made_whole(family):
    """A curvature taken beside its minimum may be negative; the filter goes on."""
    tracker = Tracker(family)
    covariance = np.diag([1e-4, -1e-3, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4])
    for k in range(5):
        track = tracker.update(float(k), Estimate(np.full(7, 0.05), covariance, 1.0))
    assert np.linalg.eigvalsh(track.covariance).min() > 0


def test_reset_starts_anew(family):
    tracker = Tracker(family)
    tracker.update(0.0, estimate(np.full(7, 0.05)))
    tracker.reset()
    assert tracker.predict(1.0) is None
    track = tracker.update(1.0, estimate(np.full(7, 0.3)))
    np.testing.assert_allclose(track.coefficients, 0.3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"diffusion": 0.0},
        {"floor": -1.0},
        {"gate": 1.0},
        {"reacquire_after": 1},
        {"averaging_s": -1.0},
        {"systematic": -0.1},
        {"fluctuating": np.nan},
    ],
)
def test_impossible_settings_are_refused_by_name(family, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Tracker(family, **wrong)


def test_estimate_of_another_family_is_refused(family):
    with pytest.raises(ValueError, match="7 coefficients"):
        Tracker(family).update(0.0, estimate(np.zeros(8)))


def test_odd_modes_alone_have_one_twin():
    family = ZernikeFamily(noll=(7, 8, 9, 10))
    tracker = Tracker(family)
    gamma = np.array([-0.1, 0.05, 0.02, 0.03])
    np.testing.assert_allclose(tracker.update(0.0, estimate(gamma)).coefficients, gamma)
