"""Blurs near none: the estimate is small, and its stated error covers the truth."""

import numpy as np
import pytest
import torch
from specimens import ERRORS, FAMILY, blurred, cells
from torch.autograd.functional import hessian, jacobian

from deepblur_live.identification import Identifier, SpectralRefiner, welch
from deepblur_live.identification.motion import MovedFamily
from deepblur_live.identification.normal_equations import normal_equations

ZERO = np.zeros(7)


@pytest.fixture(scope="module")
def refiner():
    return SpectralRefiner(FAMILY, ERRORS)


def spectrum_of(refiner, gamma=ZERO, seed=0, sigma=0.01):
    spectrum, averages = welch(blurred(cells(seed=seed), gamma, sigma, seed))
    return refiner.prepare(spectrum, averages, 1)


def test_a_perfect_microscope_is_found_to_be_one():
    found, pulls = [], []
    for seed in range(4):
        frame = blurred(cells(seed=seed), ZERO, 0.01, seed)
        identifier = Identifier(FAMILY, ERRORS)
        identifier.observe(frame, 0.0)
        estimate = identifier.estimate(frame)
        error = estimate.coefficients
        found.append(np.linalg.norm(error))
        pulls.append(error @ np.linalg.solve(estimate.covariance, error) / len(error))
    assert np.median(found) < 0.03
    # The 99 % quantile of chi-square with seven degrees of freedom is 2.6 of them.
    assert max(pulls) < 2.6


def test_the_preference_for_small_blurs_has_the_precision_of_its_cost(refiner):
    gamma = FAMILY.sample(1, torch.Generator().manual_seed(2)).double()[0] / 5
    cost, precision = refiner.smallness(gamma[None].float())
    # With s = 0.035 waves.
    expected = 2 * (1 - np.exp(-float(gamma.square().sum()) / 2 / 0.035**2))
    assert float(cost[0]) == pytest.approx(expected, rel=1e-4)
    slope = jacobian(lambda g: refiner.smallness(g[None])[0][0], gamma.float())
    torch.testing.assert_close(precision[0] * gamma.float(), slope)
    # At zero the precision is the curvature.
    zero = torch.zeros(7)
    curvature = hessian(lambda g: refiner.smallness(g[None])[0][0], zero)
    torch.testing.assert_close(
        torch.diag(refiner.smallness(zero[None])[1][0]), curvature
    )


def test_motion_is_not_preferred_to_be_small():
    moved = MovedFamily(FAMILY, 2.0)
    np.testing.assert_array_equal(
        np.isfinite(moved.prior.small), [True] * 7 + [False] * 2
    )
    refiner = SpectralRefiner(moved, ERRORS)
    gamma = torch.full((2, 9), 0.05)
    gamma[1, -2:] = 3.0
    cost, precision = refiner.smallness(gamma)
    assert cost[0] == cost[1]
    assert (precision[:, -2:] == 0).all()


def test_the_objective_of_a_known_blur_is_that_of_a_fit_that_ends_there(refiner):
    truth = FAMILY.sample(1, torch.Generator().manual_seed(4))
    data = spectrum_of(refiner, truth[0].double().numpy())
    for prior in (None, (truth[0] / 2, torch.full((7,), 0.05))):
        fit = refiner.fit(data, truth, prior)
        found = torch.from_numpy(fit.coefficients[0]).float()
        known = refiner.known(data, found, prior)
        # A misfit of 0.5 is one standard deviation.
        assert known == pytest.approx(fit.objective[0], abs=0.1)
        assert refiner.known(data, found + 0.03, prior) > known + 10


def test_near_a_fixed_point_the_information_is_that_of_single_points(refiner):
    """The mean over points nearby of what each of them says with its own specimen."""
    data = spectrum_of(refiner)
    bound = refiner.bound(data, torch.zeros(7))
    nuisance, robust, precision, _ = refiner._fitted_nuisance(data, torch.zeros(7))
    scale = 0.2 * np.asarray(FAMILY.prior.scale)
    single = []
    for mode in range(7):
        point = torch.zeros(1, 7)
        point[0, mode] = scale[mode]
        _, slopes = refiner.predict(data, point, nuisance)
        information, _ = normal_equations(
            data, slopes, robust, torch.zeros_like(robust)
        )
        covariance = torch.linalg.inv(information[0].double() + precision)
        single.append(torch.linalg.inv(covariance[:7, :7]).numpy())
    # The two symmetries move each mode once.
    np.testing.assert_allclose(
        np.linalg.inv(bound), np.mean(single, 0), rtol=1e-3, atol=0.1
    )
