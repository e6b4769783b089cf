"""Zernike PSFs against closed forms: Airy, Parseval, Maréchal; their symmetries."""

import numpy as np
import pytest
import torch
from scipy.special import j0, j1

from deepblur_live.blur import ResolvedBy
from deepblur_live.blur.zernike import SPHERICAL_MODES, ZernikeFamily
from deepblur_live.optics import psf_snr
from deepblur_live.optics.zernike import noll_to_nm, zernike


def draws(family, n=4, seed=0):
    return family.sample(n, torch.Generator().manual_seed(seed)).double()


def test_noll_order_is_nolls():
    # Noll 1976, table I.
    table = [(0, 0), (1, 1), (1, -1), (2, 0), (2, -2), (2, 2), (3, -1), (3, 1)]
    table += [(3, -3), (3, 3), (4, 0), (4, 2), (4, -2), (4, 4), (4, -4)]
    assert [noll_to_nm(j) for j in range(1, 16)] == table
    with pytest.raises(ValueError, match="start at 1"):
        noll_to_nm(0)


def test_modes_are_orthonormal_over_the_disc():
    nodes, weights = np.polynomial.legendre.leggauss(20)
    rho = torch.tensor((nodes + 1) / 2)[:, None].expand(20, 40)
    theta = (torch.arange(40, dtype=torch.float64) * 2 * torch.pi / 40).expand(20, 40)
    area = torch.tensor(weights)[:, None] * rho / 40
    modes = torch.stack([zernike(j, rho, theta) for j in range(1, 16)])
    gram = torch.einsum("aij,bij,ij->ab", modes, modes, area)
    torch.testing.assert_close(gram, torch.eye(15, dtype=torch.float64))


def test_unaberrated_psf_is_the_airy_pattern():
    family = ZernikeFamily()
    x = np.arange(family.window) - family.window // 2
    v = 2 * np.pi * family.cutoff * np.hypot(*np.meshgrid(x, x))
    v[v == 0] = 1e-9
    airy = (2 * j1(v) / v) ** 2
    airy /= airy.sum()
    psf = family.psf(torch.zeros(7, dtype=torch.float64)).numpy()
    assert np.linalg.norm(psf - airy) / np.linalg.norm(airy) < 0.005


def test_psf_is_converged_positive_and_sums_to_one():
    family = ZernikeFamily()
    gamma = draws(family)
    psf = family.psf(gamma)
    assert psf.shape == (4, 31, 31)
    assert (psf >= 0).all()
    torch.testing.assert_close(psf.sum((1, 2)), torch.ones(4, dtype=torch.float64))
    fine = ZernikeFamily(pupil_samples=511).psf(gamma)
    assert psf_snr(psf, fine).min() > 60


@pytest.mark.parametrize("noll", [(4, 5, 6, 7, 8, 9, 10), SPHERICAL_MODES])
def test_the_sign_ambiguity_keeps_the_psf_and_the_180_degree_one_rotates_it(noll):
    family = ZernikeFamily(noll=noll)
    gamma = draws(family, 1)[0].numpy()
    sign, rotation = family.symmetries
    assert sign.resolved_by is ResolvedBy.NEVER
    assert rotation.resolved_by is ResolvedBy.IMAGE
    assert np.abs(sign.apply(gamma) - gamma).max() > 0.01
    psf, same, rotated = family.psf(
        torch.tensor(np.stack([gamma, sign.apply(gamma), rotation.apply(gamma)]))
    )
    assert (same - psf).abs().max() < 1e-6
    torch.testing.assert_close(rotated, psf.flip(0, 1))


@pytest.mark.parametrize(
    ("noll", "kinds"),
    [((4, 11), [ResolvedBy.NEVER]), ((7, 8), [ResolvedBy.IMAGE])],
)
def test_only_symmetries_that_the_modes_have_are_listed(noll, kinds):
    found = ZernikeFamily(noll=noll).symmetries
    assert [symmetry.resolved_by for symmetry in found] == kinds


def test_canonical_chooses_one_of_the_two_signs():
    family = ZernikeFamily()
    sign = family.symmetries[0]
    for gamma in draws(family, 8).numpy():
        one, other = family.canonical(gamma), family.canonical(sign.apply(gamma))
        np.testing.assert_array_equal(one, other)
        assert one[0] >= 0


def test_the_prior_is_the_box_of_the_ranges():
    family = ZernikeFamily(noll=(4, 5), ranges=(0.3, 0.15))
    prior = family.prior
    np.testing.assert_allclose(np.diag(prior.covariance), [0.18**2, 0.09**2])
    # A wave of error counts the same however far γ may go.
    np.testing.assert_allclose(prior.scale, [0.15, 0.15])
    np.testing.assert_allclose(prior.admissible.gauge(np.array([0.15, -0.3])), 2)
    outside = np.array([[0.5, 0.1], [-0.1, -0.2]])
    expected = [[0.3, 0.1], [-0.1, -0.15]]
    np.testing.assert_allclose(prior.admissible.project(outside), expected)


def test_the_metric_is_the_wavefront_rms():
    family = ZernikeFamily()
    gamma = draws(family, 1)[0].numpy()
    size = family.metric.size(gamma)
    assert size == pytest.approx(family.wavefront_rms(gamma))
    assert family.metric.show(0.1, 0.01) == "54 ± 5 nm"
    quality = family.quality(gamma)
    assert [(q.name, q.unit, q.column) for q in quality] == [
        ("wavefront rms", "waves", "wavefront_rms_waves"),
        ("Strehl", "", "strehl"),
    ]
    assert quality[0].value == pytest.approx(size)


def test_jacobian_is_the_derivative():
    family = ZernikeFamily(pupil_samples=63)
    gamma = draws(family, 1)
    psf, jacobian = family.psf_and_jacobian(gamma)
    torch.testing.assert_close(psf, family.psf(gamma))
    step = 1e-6 * torch.eye(7, dtype=torch.float64)
    numeric = (family.psf(gamma + step) - family.psf(gamma - step)) / 2e-6
    torch.testing.assert_close(jacobian[0], numeric, rtol=1e-5, atol=1e-9)


def test_gradient_flows_to_the_coefficients():
    family = ZernikeFamily(pupil_samples=31)
    gamma = draws(family, 1).requires_grad_()
    assert torch.autograd.gradcheck(family.psf, gamma, atol=1e-6)


def test_energy_cut_by_the_window_is_what_lies_outside():
    family = ZernikeFamily()
    gamma = draws(family)
    cut = family.energy_cut(gamma)
    assert ((cut > 0.01) & (cut < 0.06)).all()
    # What an Airy pattern has beyond a circle, J0² + J1²: the square window lies
    # between two circles.
    inner = 2 * np.pi * family.cutoff * 15.5
    outer = inner * np.sqrt(2)
    focus = float(family.energy_cut(torch.zeros(7, dtype=torch.float64)))
    assert j0(outer) ** 2 + j1(outer) ** 2 < focus < j0(inner) ** 2 + j1(inner) ** 2


def test_window_follows_the_sampling():
    assert ZernikeFamily().window == 31
    assert ZernikeFamily(pixel_size_nm=65).window == 47
    assert ZernikeFamily(numerical_aperture=0.8).window == 55


def test_strehl_is_marechals_for_small_aberrations():
    family = ZernikeFamily()
    for mode in np.eye(7):
        strehl = family.strehl(0.03 * mode)
        assert strehl == pytest.approx(np.exp(-((2 * np.pi * 0.03) ** 2)), abs=0.002)
    assert family.strehl(np.zeros(7)) == pytest.approx(1)


def test_rms_prior_covers_the_good_microscope_and_stays_in_the_box():
    family = ZernikeFamily()
    gamma = family.sample_rms(2000, torch.Generator().manual_seed(0))
    assert gamma.abs().max() <= 0.15 + 1e-6
    rms = family.wavefront_rms(gamma.numpy())
    assert 0.1 < np.mean(rms < 0.036) < 0.4
    box = family.wavefront_rms(draws(family, 2000).numpy())
    assert np.mean(box < 0.072) < 0.01


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"numerical_aperture": 1.6}, "numerical_aperture 1.6"),
        ({"pixel_size_nm": 400.0}, "pixel_size_nm 400"),
        ({"noll": (2, 4)}, "noll"),
        ({"noll": (4, 4)}, "noll"),
        ({"ranges": (0.1,)}, "ranges"),
        ({"pupil_samples": 64}, "pupil_samples"),
    ],
)
def test_impossible_optics_are_refused_by_name(change, named):
    with pytest.raises(ValueError, match=named):
        ZernikeFamily(**change)


def test_wrong_number_of_coefficients_is_refused():
    with pytest.raises(ValueError, match="5 coefficients for the 7 modes"):
        ZernikeFamily().psf(torch.zeros(5))
