"""PSFs against closed forms: Airy, Parseval, Maréchal, the twin."""

import numpy as np
import pytest
import torch
from scipy.special import j0, j1

from deepblur_live.optics import SPHERICAL_MODES, ZernikeFamily, psf_snr
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
def test_twin_has_the_same_psf_and_rotation_turns_it(noll):
    family = ZernikeFamily(noll=noll)
    gamma = draws(family, 1)[0].numpy()
    same, twin = family.psf(torch.tensor(family.equivalents(gamma)))
    assert (same - twin).abs().max() < 1e-6
    assert np.abs(family.equivalents(gamma)[1] - gamma).max() > 0.01
    turned = family.psf(torch.tensor(family.rotated(gamma)))
    torch.testing.assert_close(turned, same.flip(0, 1))


def test_canonical_picks_one_of_the_twins():
    family = ZernikeFamily()
    for gamma in draws(family, 8).numpy():
        both = [family.canonical(twin) for twin in family.equivalents(gamma)]
        np.testing.assert_array_equal(both[0], both[1])
        assert both[0][0] >= 0


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
