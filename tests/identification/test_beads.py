"""Beads as objects: found, refused with a reason, and fitted with a shared blur."""

import numpy as np
import pytest
import torch
from bead_slides import FAMILY, bead_image, slide
from specimens import ERRORS

from deepblur_live.identification.beads import (
    BeadEstimator,
    BeadModel,
    BeadNoise,
    Refusal,
    sphere_transfer,
)
from deepblur_live.identification.beads.detect import background_noise, detect
from deepblur_live.identification.beads.fit import fit_beads, start_of
from deepblur_live.identification.beads.registration import mean_bead, shifted

GAMMA = np.array([0.04, -0.03, 0.02, 0.05, -0.04, 0.02, -0.01, 0.03])
# Camera noise of the simulated slides: photons.
PHOTONS = BeadNoise(20.0, 1.0, known=True)


def nearest_sign(gamma, truth):
    """Of the two γ with the same PSF, that nearest the truth."""
    other = np.where(FAMILY.even, -gamma, gamma)
    pair = (gamma, other)
    return min(pair, key=lambda g: float(np.linalg.norm(g - truth)))


@pytest.fixture(scope="module")
def estimator():
    return BeadEstimator(FAMILY, 1.0, ERRORS.verdict)


# The model of one bead.


def test_a_sphere_is_a_stack_of_discs():
    f = torch.linspace(0, 0.7, 50, dtype=torch.float64)
    # The discs' areas are π(r² - h²): integrated over h, with a wave along an axis.
    h, w = np.polynomial.legendre.leggauss(60)
    wave = np.cos(np.pi * 6.0 * h * f.numpy()[:, None])
    expected = (0.75 * w * (1 - h**2) * wave).sum(1)
    np.testing.assert_allclose(sphere_transfer(6.0, f), expected, atol=1e-12)
    assert float(sphere_transfer(0.0, f).min()) == 1


@pytest.mark.parametrize("side", [None, 21])
def test_the_image_of_a_bead_is_its_physics(side):
    model = BeadModel(FAMILY, 2.0, side)
    place = np.array([0.31, -0.44])
    ours = model.images(torch.from_numpy(GAMMA), 0.6**2, torch.from_numpy(place)[None])[
        0
    ]
    truth = bead_image(GAMMA, place, model.side, diameter=2.0, sigma=0.6)
    ours = (ours / ours.sum()).numpy()
    error = np.linalg.norm(ours - truth) / np.linalg.norm(truth)
    # What is left is the part of the PSF outside the family's window.
    assert error < 0.01


def test_the_derivatives_of_an_image_are_its_differences():
    model = BeadModel(FAMILY, 2.0)
    gamma, blur = torch.from_numpy(GAMMA), 0.5
    places = torch.tensor([[0.2, -0.1], [-0.4, 0.3]], dtype=torch.float64)
    shapes = model.shapes(gamma, blur, places)
    step = 1e-5
    for k in range(8):
        move = torch.zeros(8, dtype=torch.float64)
        move[k] = step
        ahead, behind = (model.images(gamma + s * move, blur, places) for s in (1, -1))
        slope = (ahead - behind) / (2 * step)
        assert torch.allclose(shapes.by_shared[:, k], slope, atol=1e-7)
    ahead, behind = (model.images(gamma, blur + s * step, places) for s in (1, -1))
    slope = (ahead - behind) / (2 * step)
    assert torch.allclose(shapes.by_shared[:, 8], slope, atol=1e-7)
    for axis in range(2):
        move = torch.zeros(2, dtype=torch.float64)
        move[axis] = step
        ahead, behind = (model.images(gamma, blur, places + s * move) for s in (1, -1))
        slope = (ahead - behind) / (2 * step)
        assert torch.allclose(shapes.by_position[:, axis], slope, atol=1e-7)


# Finding beads.


def found_in(frame, fwhm=2.3):
    return detect(frame, fwhm, 31, 31)


def reason_at(found, place):
    """The refusal of the candidate nearest to a place."""

    def distance(candidate):
        return np.hypot(candidate.row - place[0], candidate.column - place[1])

    nearest = min(found.candidates, key=distance)
    assert distance(nearest) < 4
    return nearest.refusal


def test_every_isolated_bead_is_found_and_nothing_else():
    frame, places = slide(GAMMA)
    found = found_in(frame)
    assert len(found.candidates) == len(found.usable) == 9
    for place in places:
        assert reason_at(found, place) is None


@pytest.mark.parametrize("defocus", [0.15, 0.25, 0.3])
def test_beads_out_of_focus_are_found_as_whole_discs(defocus):
    frame, places = slide(np.array([defocus, 0, 0, 0.02, 0, 0, 0, 0.02]))
    found = found_in(frame)
    assert len(found.usable) == 9
    for place in places:
        assert reason_at(found, place) is None


def test_refused_beads_have_a_reason():
    frame, places = slide(GAMMA, photons=2e4)
    # A second bead beside the first, a part of a bead at the edge, a clipped bead.
    first = np.round(places[0]).astype(int)
    part = tuple(slice(n - 15, n + 16) for n in (first[0], first[1] + 12))
    frame[part] += 2e4 * bead_image(GAMMA, (0, 0), 31)
    frame[90:121, :20] += 2e4 * bead_image(GAMMA, (0, 0), 31)[:, 11:]
    last = np.round(places[8]).astype(int)
    part = tuple(slice(n - 15, n + 16) for n in last)
    frame[part] += 6e4 * bead_image(GAMMA, (0, 0), 31)
    frame = np.minimum(frame, 3500)
    found = found_in(frame)
    assert reason_at(found, places[0]) is Refusal.CROWDED
    assert reason_at(found, (105, 4)) is Refusal.EDGE
    assert reason_at(found, places[8]) is Refusal.SATURATED
    assert reason_at(found, places[4]) is None
    assert found.counts()[Refusal.SATURATED] == 1


def test_noise_alone_has_no_beads():
    noise = np.random.default_rng(0).normal(100, 5, (256, 256))
    assert found_in(noise).usable == ()
    assert background_noise(noise) == pytest.approx(5, rel=0.03)
    # Rounding is noise as well, where the camera's own is smaller.
    assert background_noise(np.round(noise / 30)) >= 12**-0.5


def test_the_mean_of_registered_beads_is_a_bead():
    model = BeadModel(FAMILY, 1.0)
    rng = np.random.default_rng(1)
    places = torch.from_numpy(rng.uniform(-1.5, 1.5, (12, 2)))
    gamma = torch.from_numpy(GAMMA)
    crops = 3.0 + 100 * model.images(gamma, 0.1, places)
    mean, found = mean_bead(crops)
    off = (found - places) - (found - places).mean(0)
    assert float(off.abs().max()) < 0.1
    sharp = 100 * model.images(gamma, 0.1, (places - found).mean(0)[None])[0]
    assert float((mean - sharp).norm() / sharp.norm()) < 0.06
    there_and_back = shifted(shifted(crops, places), -places)
    assert torch.allclose(there_and_back, crops, atol=1e-3)


# The fit.


def test_errors_are_near_the_cramer_rao_bound(estimator):
    """Nine beads of 10⁴ photons each: γ to 3 nm, and the stated errors are right."""
    ratios = []
    for seed in range(3):
        gamma = np.random.default_rng(seed).uniform(-0.05, 0.05, 8)
        frame, places = slide(gamma, seed=seed, sigma=0.3)
        found = estimator.estimate(frame, PHOTONS)
        error = nearest_sign(found.fit.coefficients, gamma) - gamma
        assert np.linalg.norm(error) * FAMILY.wavelength_nm < 4
        ratios.append(error**2 / np.diag(found.fit.covariance))
        assert found.estimate.trusted
        assert found.fit.blur == pytest.approx(0.09, abs=0.05)
        bright = found.fit.brightness
        np.testing.assert_allclose(bright, 1e4, rtol=0.1)
        placed = np.array([[b.row, b.column] for b in found.beads])
        off = placed + found.fit.positions
        distance = np.linalg.norm(off[:, None] - places, axis=2).min(1)
        assert distance.max() < 0.05
    # χ² with 24 degrees of freedom, over their number: within 0.4 to 2.
    assert 0.4 < np.mean(ratios) < 2


def test_the_gradient_of_the_fit_vanishes_at_its_minimum():
    """Any small change of γ, with all else fitted again, is worse."""
    model = BeadModel(FAMILY, 1.0)
    truth = torch.from_numpy(GAMMA)
    places = torch.tensor([[0.1, 0.2], [-0.3, 0.4]], dtype=torch.float64)
    crops = 20 + 1e4 * model.images(truth, 0.2, places)
    noise = BeadNoise(20.0, 1.0, known=True)
    start = start_of(crops, truth + 0.02, 0.5, torch.zeros(2, 2))
    fit = fit_beads(model, crops, noise, start)
    # Without noise the truth comes back; the prior pulls by less than the error.
    pull = np.abs(fit.coefficients - GAMMA) / np.sqrt(np.diag(fit.covariance))
    assert pull.max() < 0.1
    assert fit.blur == pytest.approx(0.2, abs=0.02)
    assert fit.chi2.max() < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_strong_blurs_are_found_without_a_prediction(estimator, seed):
    gamma = np.random.default_rng(seed).uniform(-0.15, 0.15, 8)
    frame, _ = slide(gamma, seed=seed, sigma=0.4)
    found = estimator.estimate(frame)
    off = nearest_sign(found.estimate.coefficients, gamma) - gamma
    assert np.linalg.norm(off) < 0.03
    assert found.estimate.trusted


def test_a_bead_unlike_the_others_is_left_out(estimator):
    frame, places = slide(GAMMA, photons=3e4)
    double = np.round(places[4]).astype(int)
    part = tuple(slice(n - 15, n + 16) for n in double)
    frame[part] += 2e4 * bead_image(GAMMA, (1.5, 1.5), 31)
    found = estimator.estimate(frame, PHOTONS)
    assert found.detection.counts() == {Refusal.MISFIT: 1}
    assert len(found.beads) == 8
    assert reason_at(found.detection, places[4]) is Refusal.MISFIT
    off = nearest_sign(found.estimate.coefficients, GAMMA) - GAMMA
    assert np.linalg.norm(off) < 0.02


# The verdict.


def test_beads_far_out_of_focus_are_refused(estimator):
    """Discs that the family cannot describe are not 0.1 waves of something."""
    frame, _ = slide(np.array([0.6, 0, 0.03, 0, 0.04, 0, 0, 0]), photons=1e5)
    found = estimator.estimate(frame)
    assert found.estimate is None or not found.estimate.trusted


def test_blobs_wider_than_the_window_are_refused_without_a_fit(estimator):
    row, column = np.indices((210, 210))
    square = [(row - r) ** 2 + (column - c) ** 2 for r in (50, 160) for c in (50, 160)]
    discs = sum(100 * np.exp(-part / (2 * 9.0**2)) for part in square)
    frame = np.random.default_rng(0).poisson(20 + discs).astype(float)
    found = estimator.estimate(frame)
    assert found.fit is None
    assert not found.estimate.trusted
    assert "too far out of focus" in found.estimate.reason


def test_beads_of_another_shape_are_refused(estimator):
    """Two points 0.5 µm apart are no bead, whatever the blur."""
    frame, _ = slide(GAMMA, photons=1e5)
    second, _ = slide(GAMMA, photons=1e5, background=0.0)
    frame = frame + np.roll(second, (5, 4), (0, 1))
    found = estimator.estimate(frame)
    assert not found.estimate.trusted
    assert "beads" in found.estimate.reason


def test_too_few_beads_leave_the_blur_open(estimator):
    frame, _ = slide(GAMMA)
    frame[:, 70:] = np.random.default_rng(0).poisson(20, (210, 140))
    frame[:70] = np.random.default_rng(1).poisson(20, (70, 210))
    found = estimator.estimate(frame)
    assert found.estimate is None
    assert len(found.beads) == 2
    assert found.describe() == "2 of 2 beads are used"


def test_the_unit_of_brightness_does_not_matter(estimator):
    frame, _ = slide(GAMMA)
    plain = estimator.estimate(frame, prediction=GAMMA)
    scaled = estimator.estimate((frame - 50) / 3000, prediction=GAMMA)
    np.testing.assert_allclose(
        scaled.estimate.coefficients, plain.estimate.coefficients, atol=1e-3
    )
