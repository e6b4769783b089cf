"""The Kalman tracker: closed forms, calibrated bands, sign ambiguity and steps."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from deepblur_live.blur import Estimate, ResolvedBy, Symmetry
from deepblur_live.blur.zernike import ZernikeFamily
from deepblur_live.drift import Gaussian, Tracker

TINY = 1e-9
# Estimates with independent errors, as large as stated.
INDEPENDENT = {"systematic": 0.0, "fluctuating": 1.0, "track_floor": TINY}


def estimate(coefficients, sigma=0.01, trusted=True) -> Estimate:
    coefficients = np.asarray(coefficients, float)
    covariance = np.eye(len(coefficients)) * sigma**2
    return Estimate(coefficients, covariance, 1.0, trusted, "" if trusted else "flat")


def random_walk(rng, start, diffusion, dt, n):
    steps = rng.normal(0, diffusion * np.sqrt(dt), (n, len(start)))
    return start + np.cumsum(steps, axis=0)


def test_steady_state_is_the_closed_form(family, errors):
    diffusion, sigma, dt = 0.004, 0.012, 0.5
    independent = errors.model_copy(update=INDEPENDENT)
    tracker = Tracker(family, independent, diffusion=diffusion)
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


def test_nis_and_bands_are_as_stated(family, errors, covariance, identification):
    rng = np.random.default_rng(3)
    diffusion, dt, n = 0.003, 0.5, 4000
    independent = errors.model_copy(update=INDEPENDENT)
    tracker = Tracker(family, independent, diffusion=diffusion)
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


def test_correlated_estimates_keep_calibrated_bands(family, errors, covariance):
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
            errors.model_copy(update=INDEPENDENT),
            diffusion=0.001,
            averaging_s=averaging_s,
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


def test_systematic_error_stays_in_the_bands(family, errors, covariance):
    """A bias common to all estimates stays within the bands, however long."""
    rng = np.random.default_rng(5)
    share = 3.0
    biased = errors.model_copy(update={"systematic": share, "track_floor": TINY})
    hits, still = [], []
    for _ in range(100):
        # One systematic error per specimen, a new fluctuation for each estimate.
        bias = rng.multivariate_normal(np.zeros(7), share * covariance)
        tracker = Tracker(family, biased, diffusion=1e-4)
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


def test_systematic_share_does_not_slow_the_track(family, errors):
    """Follow a ramp of 3 milliwaves/s although each estimate states ± 0.03."""

    def lag(fluctuating: float) -> float:
        tracker = Tracker(
            family,
            errors.model_copy(update={"fluctuating": fluctuating}),
            averaging_s=5.0,
        )
        for k in range(61):
            truth = np.full(7, 0.05)
            truth[3] += 0.003 * 0.5 * max(0, k - 40)
            track = tracker.update(0.5 * k, estimate(truth, sigma=0.03))
        return float((truth - track.coefficients)[3] / 0.003)

    assert lag(0.1) < 0.8 * lag(1.0)


def test_measured_is_the_estimate_aligned_with_the_track(family, errors):
    tracker = Tracker(family, errors)
    truth = np.array([0.05, 0.03, -0.04, 0.02, 0.0, 0.01, -0.02])
    tracker.update(0.0, estimate(truth))
    flipped = np.where(family.even, -truth - 0.002, truth + 0.002)
    track = tracker.update(1.0, estimate(flipped))
    np.testing.assert_allclose(track.measured, np.where(family.even, -flipped, flipped))
    assert tracker.update(2.0, estimate(truth, trusted=False)).measured is None
    assert tracker.update(3.0, estimate(truth + 0.2)).measured is None


def test_floor_adds_the_model_error(family, errors):
    tracker = Tracker(family, errors.model_copy(update={"track_floor": 0.02 / 0.15}))
    track = tracker.update(0.0, estimate(np.full(7, 0.05), sigma=0.0))
    np.testing.assert_allclose(track.covariance, np.eye(7) * 4e-4, atol=1e-12)


def test_first_state_is_canonical_with_its_covariance(family, errors, covariance):
    gamma = np.array([-0.1, 0.05, 0.02, 0.03, -0.04, 0.01, 0.0])
    shares = {"systematic": 2.0, "fluctuating": 0.5, "track_floor": TINY}
    tracker = Tracker(family, errors.model_copy(update=shares))
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
    family, errors, covariance, identification, canonicalised
):
    n, dt = 241, 0.5
    truth = np.tile([0.0, 0.08, -0.05, 0.03, 0.0, 0.04, -0.02], (n, 1))
    truth[:, 0] = np.linspace(0.12, -0.12, n)
    identify = identification(covariance, seed=5, ambiguous=not canonicalised)
    tracker = Tracker(family, errors, averaging_s=0.0)
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


def test_lone_outlier_is_refused(family, errors):
    tracker = Tracker(family, errors)
    truth = np.full(7, 0.05)
    for k in range(20):
        before = tracker.update(float(k), estimate(truth))
    refused = tracker.update(20.0, estimate(truth + 0.1))
    assert not refused.accepted
    assert refused.nis > 24
    np.testing.assert_array_equal(refused.coefficients, before.coefficients)
    assert np.trace(refused.covariance) > np.trace(before.covariance)
    assert tracker.update(21.0, estimate(truth)).accepted


def test_step_is_reacquired_and_logged(family, errors, caplog):
    tracker = Tracker(family, errors)
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


def test_step_waits_for_the_average_to_be_past_it(family, errors):
    tracker = Tracker(family, errors, averaging_s=5.0)
    for k in range(20):
        tracker.update(0.5 * k, estimate(np.full(7, 0.05)))
    times = 10.0 + 0.5 * np.arange(12)
    taken = [tracker.update(t, estimate(np.full(7, 0.15))).accepted for t in times]
    assert times[taken.index(True)] == pytest.approx(15.0)


def test_step_of_a_new_average_is_followed_at_once(family, errors):
    truth, stepped = np.full(7, 0.05), np.full(7, 0.15)
    for since, last in ((0.0, 65.0), (60.5, 63.0), (60.0, 65.0), (62.5, 65.0)):
        tracker = Tracker(family, errors, averaging_s=4.0)
        for k in range(61):
            tracker.update(float(k), estimate(truth), 0.0)
        times = 61.0 + np.arange(5)
        followed = [tracker.update(t, estimate(stepped), since) for t in times]
        assert times[[track.reacquired for track in followed]].tolist() == [last]


def test_a_provisional_estimate_is_replaced_by_the_next(family, errors):
    tracker = Tracker(family, errors, averaging_s=5.0)
    rough, fine = np.full(7, 0.05), np.full(7, -0.1)
    first = tracker.update(0.0, replace(estimate(rough), provisional=True))
    np.testing.assert_array_equal(first.coefficients, rough)
    # Charts take accepted states only.
    assert not first.accepted and first.measured is None
    untrusted = tracker.update(1.0, estimate(fine, trusted=False))
    np.testing.assert_array_equal(untrusted.coefficients, rough)
    second = tracker.update(2.0, estimate(fine))
    np.testing.assert_array_equal(second.coefficients, family.canonical(fine))
    assert second.accepted and not second.reacquired
    third = tracker.update(3.0, estimate(rough))
    assert not third.accepted


def test_scattered_outliers_never_take_over(family, errors):
    tracker = Tracker(family, errors)
    truth = np.full(7, 0.05)
    tracker.update(0.0, estimate(truth))
    rng = np.random.default_rng(7)
    for k in range(1, 60):
        track = tracker.update(0.1 * k, estimate(rng.uniform(-0.5, 0.5, 7)))
        assert not track.reacquired
    assert np.abs(track.coefficients - truth).max() < 0.05


def test_step_with_ambiguous_sign_is_one_step(family, errors):
    """Estimates after a step that alternate in sign are still one step."""
    tracker = Tracker(family, errors)
    truth = np.array([0.06, 0.05, -0.05, 0.0, 0.0, 0.0, 0.0])
    for k in range(10):
        tracker.update(float(k), estimate(truth))
    stepped = truth + np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    for k in range(3):
        track = tracker.update(10.0 + k, estimate(stepped * (-1) ** k))
    assert track.reacquired
    np.testing.assert_allclose(track.coefficients, stepped, atol=1e-9)


def test_untrusted_and_infinite_estimates_never_update(family, errors):
    tracker = Tracker(family, errors)
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


def test_uneven_clock(family, errors):
    """A gap grows the covariance by its length, and time never runs backwards."""
    diffusion = 0.003
    tracker = Tracker(family, errors, diffusion=diffusion)
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
    whole, halves = Tracker(family, errors), Tracker(family, errors)
    for one in (whole, halves):
        one.update(0.0, estimate(np.full(7, 0.05)))
    halves.update(3.0, estimate(np.full(7, 0.05), trusted=False))
    np.testing.assert_allclose(
        whole.predict(9.0).covariance, halves.predict(9.0).covariance
    )


def test_indefinite_covariance_is_made_whole(family, errors):
    """A curvature away from its minimum may be negative; the filter continues."""
    tracker = Tracker(family, errors)
    covariance = np.diag([1e-4, -1e-3, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4])
    for k in range(5):
        track = tracker.update(float(k), Estimate(np.full(7, 0.05), covariance, 1.0))
    assert np.linalg.eigvalsh(track.covariance).min() > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"diffusion": 0.0},
        {"averaging_s": -1.0},
    ],
)
def test_impossible_settings_are_refused_by_name(family, errors, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Tracker(family, errors, **wrong)


def test_estimate_of_another_family_is_refused(family, errors):
    with pytest.raises(ValueError, match="7 coefficients"):
        Tracker(family, errors).update(0.0, estimate(np.zeros(8)))


def test_odd_modes_alone_have_no_sign_ambiguity(errors):
    family = ZernikeFamily(noll=(7, 8, 9, 10))
    tracker = Tracker(family, errors)
    gamma = np.array([-0.1, 0.05, 0.02, 0.03])
    np.testing.assert_allclose(tracker.update(0.0, estimate(gamma)).coefficients, gamma)


class Mirrored(ZernikeFamily):
    """γ and 0.2 - γ have the same PSF in the first coefficient: not a sign change."""

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        matrix = np.eye(7)
        matrix[0, 0] = -1.0
        offset = 0.2 * np.eye(7)[0]
        return (Symmetry("mirror", matrix, offset, ResolvedBy.NEVER),)

    def canonical(self, coefficients):
        mirrored = self.symmetries[0].apply(coefficients)
        return mirrored if coefficients[0] < 0.1 else coefficients


def test_affine_symmetries_are_aligned_with_their_covariance(errors, covariance):
    family = Mirrored()
    (mirror,) = family.symmetries
    tracker = Tracker(family, errors)
    gamma = np.array([0.04, 0.05, 0.02, 0.03, -0.04, 0.01, 0.0])
    for k in range(6):
        found = Estimate(gamma, covariance, 1.0)
        if k % 2:
            found = Estimate(mirror.apply(gamma), mirror.covariance(covariance), 1.0)
        track = tracker.update(float(k), found)
        assert track.accepted
        np.testing.assert_allclose(track.coefficients, mirror.apply(gamma))
    assert track.covariance[0, 1] < 0 < covariance[0, 1]


def test_a_known_start_gives_the_sign_and_is_combined_with_the_first_estimate(
    family, errors
):
    """With all of what the estimate states, as the two share no error."""
    tracker = Tracker(family, errors, averaging_s=5.0)
    truth = np.full(7, -0.08)
    tracker.update(0.0, estimate(-truth))
    known = Gaussian(10.0, truth, 0.01**2 * np.eye(7))
    assert tracker.start_from(known).coefficients is truth
    np.testing.assert_array_equal(tracker.predict(10.0).coefficients, truth)
    mirrored = np.where(family.even, -1.0, 1.0) * (truth - 0.02)
    track = tracker.update(10.0, estimate(mirrored, 0.01))
    assert track.accepted
    # Half way, as both are equally sure, but for the tracker's floor.
    np.testing.assert_allclose(track.coefficients - truth, -0.01, atol=2e-3)
    # Later estimates count with their fluctuating part, as usual.
    assert not tracker._from_outside


def test_estimates_that_contradict_a_known_start_take_over_when_they_agree(
    family, errors
):
    tracker = Tracker(family, errors)
    tracker.start_from(Gaussian(0.0, np.full(7, 0.1), 1e-4 * np.eye(7)))
    tracks = [tracker.update(float(k), estimate(np.full(7, 0.01))) for k in range(3)]
    assert [track.accepted for track in tracks] == [False, False, True]
    assert tracks[-1].reacquired
