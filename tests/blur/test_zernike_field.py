"""Fields: their terms against symmetry, their local PSFs, their uncertainty."""

import numpy as np
import pytest
import torch

from deepblur_live.blur import marginal_kernels, relative_error
from deepblur_live.blur.field_basis import FieldView, field_terms
from deepblur_live.blur.tiled import grid_positions
from deepblur_live.blur.zernike import PAPER_MODES, SPHERICAL_MODES, ZernikeFamily
from deepblur_live.blur.zernike_field import ZernikeField

LOCAL = ZernikeFamily(pupil_samples=63)
FAMILY = ZernikeField(LOCAL)
CENTRE, RIGHT, BOTTOM = (0.5, 0.5), (0.5, 1.0), (1.0, 0.5)


def field(seed=0):
    return FAMILY.sample(1, torch.Generator().manual_seed(seed))[0].double()


def single(name, size=0.1, family=FAMILY):
    coefficients = torch.zeros(family.n_coefficients, dtype=torch.float64)
    coefficients[family.names.index(name)] = size
    return coefficients


def test_the_terms_of_nodal_aberration_theory():
    assert len(field_terms(PAPER_MODES, False)) == 16
    assert len(field_terms(SPHERICAL_MODES, False)) == 17
    terms = field_terms(PAPER_MODES)
    assert [term.nodal for term in terms] == [True] * 16 + [False] * 26
    names = [term.name for term in terms]
    assert len(set(names)) == len(names)
    for name in ("defocus", "field curvature", "astigmatism, linear, along x"):
        assert name in names[:16]


def test_with_the_remainder_each_mode_is_any_quadratic():
    u, v = np.meshgrid(*[np.linspace(-1, 1, 7)] * 2)
    line = (np.stack([v, u], -1).reshape(-1, 2) + 1) / 2
    design = FAMILY.design(line)
    u, v = u.ravel(), v.ravel()
    monomials = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], -1)
    for mode in range(7):
        found = np.linalg.matrix_rank(np.hstack([monomials, design[:, mode]]))
        assert found == np.linalg.matrix_rank(design[:, mode]) == 6
    assert np.linalg.matrix_rank(design.reshape(-1, 42)) == 42


@pytest.mark.parametrize(
    ("name", "symmetric"),
    [
        ("field curvature", True),
        ("astigmatism, quadratic", True),
        ("coma, linear", True),
        ("defocus, linear, along x", False),
        ("astigmatism, linear, along x", False),
        ("trefoil, linear, along x", False),
    ],
)
def test_terms_of_a_centred_system_turn_with_the_field(name, symmetric):
    """From right to bottom is a quarter turn clockwise, as an image is shown."""
    coefficients = single(name)
    right, bottom = FAMILY.psf(coefficients, RIGHT), FAMILY.psf(coefficients, BOTTOM)
    error = float((torch.rot90(right, -1) - bottom).norm() / bottom.norm())
    assert (error < 1e-10) == symmetric
    constant = FAMILY.psf(torch.zeros_like(coefficients))
    assert float((right - constant).norm() / constant.norm()) > 0.1


def test_coma_and_astigmatism_have_their_nodes():
    """a0 + a1 H + a2 H² vanishes at two points; c0 + c1 H at one."""
    field = single("coma, linear", 0.1) + single("horizontal coma", -0.05)
    node = np.array([[0.5, 0.75]])
    assert torch.equal(FAMILY.at(field, node), torch.zeros(1, 7, dtype=torch.float64))
    field = single("astigmatism, quadratic", 0.1)
    field += single("vertical astigmatism", -0.025)
    nodes = np.array([[0.5, 0.25], [0.5, 0.75], [0.25, 0.5]])
    size = FAMILY.at(field, nodes).norm(dim=-1)
    torch.testing.assert_close(size, torch.tensor([0, 0, 0.05]).double())


def test_a_constant_field_has_the_uniform_psf_everywhere():
    gamma = LOCAL.sample(1, torch.Generator().manual_seed(0))[0]
    constant = torch.from_numpy(FAMILY.constant(gamma.double().numpy())).float()
    for position in (None, RIGHT, (0.1, 0.9)):
        assert torch.equal(FAMILY.psf(constant, position), LOCAL.psf(gamma))
    kernels = FAMILY.kernels(constant)[0]
    expected = LOCAL.psf(gamma).expand_as(kernels)
    torch.testing.assert_close(kernels, expected, rtol=1e-5, atol=1e-8)


def test_kernels_are_the_local_psfs():
    kernels = FAMILY.kernels(field())[0]
    for index in ((0, 0), (7, 3), (2, 7)):
        position = tuple(i / 7 for i in index)
        torch.testing.assert_close(kernels[index], FAMILY.psf(field(), position))


def test_symmetries_leave_all_psfs_or_turn_them():
    never, image = FAMILY.symmetries
    for position in (CENTRE, (0.1, 0.8)):
        psf = FAMILY.psf(field(), position)
        same = FAMILY.psf(torch.from_numpy(never.apply(field().numpy())), position)
        turned = FAMILY.psf(torch.from_numpy(image.apply(field().numpy())), position)
        torch.testing.assert_close(same, psf)
        torch.testing.assert_close(turned, psf.flip(-2, -1))


def test_the_jacobian_is_the_derivative():
    position = (0.2, 0.9)
    psf, jacobian = FAMILY.psf_and_jacobian(field(), position)
    torch.testing.assert_close(psf, FAMILY.psf(field(), position))
    for p in (0, 5, 15, 41):
        step = torch.zeros(42, dtype=torch.float64)
        step[p] = 1e-6
        change = FAMILY.psf(field() + step, position)
        change -= FAMILY.psf(field() - step, position)
        torch.testing.assert_close(jacobian[p], change / 2e-6, rtol=1e-4, atol=1e-7)


def test_a_region_of_interest_keeps_the_sensors_coordinates():
    whole = ZernikeField(LOCAL, FieldView(1000, 1600))
    part = ZernikeField(LOCAL, FieldView(1000, 1600, 400, 800, 200, 320))
    torch.testing.assert_close(
        part.psf(field(), (0.5, 0.25)), whole.psf(field(), (0.5, 0.55))
    )
    # The longer side ends at ±1.
    place = whole.view.places(np.array([[0.5, 1.0], [1.0, 0.5]]))
    np.testing.assert_allclose(place, [1, 0.625j])
    with pytest.raises(ValueError, match="reaches beyond the sensor of 1000 × 1600"):
        FieldView(1000, 1600, 900, 0, 200, 320)


def test_drawn_fields_stay_within_the_range_everywhere():
    drawn = FAMILY.sample(20, torch.Generator().manual_seed(1))
    local = FAMILY.at(drawn, FAMILY.view.grid(9)).abs()
    assert float(local.max()) <= 0.15 + 1e-6
    # They vary: half of the wavefront's power is not constant.
    assert float(local.std(1).mean()) > 0.02


def test_the_metric_is_the_rms_over_the_frame():
    rows = np.random.default_rng(0).uniform(size=(20000, 2))
    local = FAMILY.at(field()[None], rows)[0]
    expected = float(local.square().sum(-1).mean().sqrt())
    assert FAMILY.metric.size(field().numpy()) == pytest.approx(expected, rel=0.02)


def test_the_relative_error_counts_what_moves_the_psfs():
    gamma = np.diag(np.full(7, 0.03**2))
    embed = np.stack([FAMILY.constant(row) for row in np.eye(7)], -1)
    covariance = embed @ gamma @ embed.T
    expected = relative_error(LOCAL, gamma)
    assert relative_error(FAMILY, covariance) == pytest.approx(expected)
    # Coefficients by coefficient, what is unknown of the remainder would look large.
    tight = FAMILY.prior.covariance * (np.arange(42) >= 16)
    assert relative_error(FAMILY, tight) < 0.25


def test_an_uncertain_field_has_its_expected_psfs():
    """Interpolated from 4 × 4 places: against the rule at one place between them."""
    covariance = torch.from_numpy(FAMILY.prior.covariance).float() * 0.1**2
    mean, spread = FAMILY.expected_kernels(field().float(), covariance)
    index = 8 * 2 + 5
    position = grid_positions()[[index]]
    design = torch.from_numpy(FAMILY.design(position)).float()[0]
    expected, deviations = marginal_kernels(
        LOCAL.psf,
        FAMILY.at(field().float(), position)[0],
        design @ covariance @ design.T,
    )
    certain = FAMILY.kernels(field().float())[0].flatten(0, 1)[index]
    found = mean.flatten(0, 1)[index]
    assert (found - expected).norm() < 0.5 * (certain - expected).norm()
    error = (spread.flatten(0, 1)[index] - deviations).norm() / deviations.norm()
    assert float(error) < 0.2
    mean, spread = FAMILY.expected_kernels(field().float(), 0 * covariance)
    torch.testing.assert_close(
        mean, FAMILY.kernels(field().float())[0], atol=1e-6, rtol=0
    )
    assert float(spread.abs().max()) < 1e-9
