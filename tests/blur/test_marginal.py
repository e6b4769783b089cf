"""The operator of an uncertain PSF, against averages over draws of γ."""

import pytest
import torch
from gaussian_family import GaussianFamily

from deepblur_live.blur import Convolution, expected_kernels, marginal_kernels
from deepblur_live.blur.marginal import sigma_points
from deepblur_live.blur.zernike import ZernikeFamily

FAMILY = ZernikeFamily(pupil_samples=63)
SHAPE = (64, 72)


def estimate(deviation, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = FAMILY.n_coefficients
    gamma = FAMILY.sample_rms(1, generator)[0].double()
    mixed = torch.randn(size, size, generator=generator, dtype=torch.float64)
    covariance = mixed @ mixed.T
    covariance *= deviation**2 / covariance.diagonal().mean()
    return gamma, covariance


def images(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*SHAPE, generator=generator, dtype=torch.float64)


def test_sigma_points_have_the_covariance_and_no_mean():
    covariance = torch.stack([estimate(0.05, seed)[1] for seed in (0, 1)])
    points = sigma_points(covariance)
    assert points.shape == (2, 2 * FAMILY.n_coefficients, FAMILY.n_coefficients)
    torch.testing.assert_close(points.mT @ points / points.shape[-2], covariance)
    assert points.mean(-2).abs().max() < 1e-12


@pytest.mark.parametrize("deviation", [0.03, 0.06])
def test_expectations_are_those_of_many_draws(deviation):
    gamma, covariance = estimate(deviation)
    blur = FAMILY.operator_from(marginal_kernels(FAMILY.psf, gamma, covariance), SHAPE)
    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(1000, len(gamma), generator=generator, dtype=torch.float64)
    drawn = FAMILY.operator(gamma + draws @ torch.linalg.cholesky(covariance).T, SHAPE)
    mean, power = drawn.otf.mean(0), drawn.power.mean(0)
    known = FAMILY.operator(gamma, SHAPE)
    # The rule is not exact; it must leave a small part of what uncertainty changes.
    assert (blur.otf - mean).norm() < 0.3 * (known.otf - mean).norm()
    assert (blur.power - power).norm() < 0.3 * (known.power - power).norm()
    spread = (power - mean.abs() ** 2).sum()
    assert abs((blur.power - blur.otf.abs() ** 2).sum() / spread - 1) < 0.25


def test_steps_are_the_means_over_the_sigma_points():
    gamma, covariance = estimate(0.05)
    blur = FAMILY.operator_from(marginal_kernels(FAMILY.psf, gamma, covariance), SHAPE)
    each = FAMILY.operator(gamma + sigma_points(covariance), SHAPE)
    z, y = images(0), images(1)
    gradient = each.adjoint(each.forward(z) - y).mean(0)
    found = blur.gradient_step(z, blur.prepare(y), 0.7)
    torch.testing.assert_close(found, z - 0.7 * gradient, rtol=1e-9, atol=1e-9)
    # The minimum of the mean of ‖A x - y‖² + λ‖x - z‖² has no gradient.
    weight = torch.full((1, 1), 0.01, dtype=torch.float64)
    x = blur.prox_data(z, y, weight)
    slope = each.adjoint(each.forward(x) - y).mean(0) + weight * (x - z)
    assert slope.abs().max() < 1e-9


def test_without_uncertainty_all_steps_are_those_of_the_known_psf():
    gamma, covariance = estimate(0.05)
    kernels = marginal_kernels(FAMILY.psf, gamma, torch.zeros_like(covariance))
    weight = torch.full((1, 1), 0.01, dtype=torch.float64)
    z, y = images(0), images(1)
    results = []
    for blur in (
        FAMILY.operator_from(kernels, SHAPE, (40, 50)),
        FAMILY.operator(gamma, SHAPE, (40, 50)),
    ):
        gradient = blur.gradient_step(z, blur.prepare(y), 0.7)
        results.append((gradient, blur.prox_data(z, y, weight, 0.02)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_frame_smaller_than_the_spread_has_the_same_transfer():
    """At its frequencies, which a frame of twice the size has too."""
    gamma, covariance = estimate(0.05)
    kernels = marginal_kernels(FAMILY.psf, gamma, covariance)
    rows, columns = 40, 58
    assert min(rows, columns) < 2 * FAMILY.window - 1 < 2 * rows
    small = FAMILY.operator_from(kernels, (rows, columns))
    large = FAMILY.operator_from(kernels, (2 * rows, 2 * columns))
    torch.testing.assert_close(small.power, large.power[::2, ::2])


def test_a_family_need_not_describe_uncertainty_and_no_more_than_its_prior_counts():
    gamma, covariance = estimate(0.05)
    known = GaussianFamily()
    width = known.sample(1, torch.Generator().manual_seed(0))[0]
    (kernel,) = expected_kernels(known, width, torch.eye(3))
    assert torch.equal(kernel, known.psf(width)[None])
    prior = torch.from_numpy(FAMILY.prior.covariance)
    bounds = [
        expected_kernels(FAMILY, gamma, wide)
        for wide in (prior, 1e6 * prior, torch.full_like(prior, torch.inf))
    ]
    for bound in bounds[1:]:
        for found, expected in zip(bound, bounds[0], strict=True):
            torch.testing.assert_close(found, expected)
    inside = expected_kernels(FAMILY, gamma, covariance)
    for found, expected in zip(
        inside, marginal_kernels(FAMILY.psf, gamma, covariance), strict=True
    ):
        torch.testing.assert_close(found[0], expected)


def test_a_batch_is_treated_frame_by_frame():
    pairs = [estimate(deviation, seed) for seed, deviation in enumerate((0.01, 0.08))]
    gamma, covariance = (torch.stack(part) for part in zip(*pairs, strict=True))
    psf, spread = marginal_kernels(FAMILY.psf, gamma, covariance)
    together = Convolution(psf, SHAPE, spread=spread)
    for i, pair in enumerate(pairs):
        alone = Convolution(
            *marginal_kernels(FAMILY.psf, *pair)[:1],
            SHAPE,
            spread=marginal_kernels(FAMILY.psf, *pair)[1],
        )
        torch.testing.assert_close(together.power[i], alone.power)
