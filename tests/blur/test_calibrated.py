"""The calibrated family: its blurs, its prior, and which symmetries it has."""

import pickle

import numpy as np
import pytest
import torch
from calibrated_family import MEAN, states

from deepblur_live.blur import ChangeShape, ResolvedBy
from deepblur_live.blur.calibrated import CalibratedZernikeFamily
from deepblur_live.blur.zernike import SPHERICAL_MODES, ZernikeFamily
from deepblur_live.calibration.learning import learn_family
from deepblur_live.profile import Optics

LOCAL = ZernikeFamily(noll=SPHERICAL_MODES)


@pytest.fixture(scope="module")
def family():
    return learn_family(states(20), LOCAL)


def test_its_blurs_are_the_local_familys(family):
    gamma = states(1, seed=3)
    c = torch.from_numpy(family.learned.coefficients(gamma))
    expected = LOCAL.psf(torch.from_numpy(gamma))
    torch.testing.assert_close(family.psf(c), expected)
    torch.testing.assert_close(family.kernels(c)[0], expected)
    image = torch.rand(40, 40, dtype=torch.float64)
    torch.testing.assert_close(
        family.operator(c, (40, 40)).forward(image),
        LOCAL.operator(torch.from_numpy(gamma), (40, 40)).forward(image),
    )
    np.testing.assert_allclose(family.learned.modes(c.numpy()), gamma)
    assert family.names == ("defocus", "spherical", *LOCAL.names[1:-1])
    with pytest.raises(ValueError, match="got 3 coefficients for the 8"):
        family.psf(torch.zeros(3))


@pytest.mark.parametrize("directions", [None, 3])
def test_its_jacobian_is_the_derivative(directions):
    family = learn_family(states(20), LOCAL, directions=directions)
    c = family.sample(2, torch.Generator().manual_seed(0)).double()
    psf, slopes = family.psf_and_jacobian(c)
    torch.testing.assert_close(psf, family.psf(c))
    for k, step in enumerate(1e-6 * torch.eye(c.shape[1], dtype=torch.float64)):
        numeric = (family.psf(c + step) - family.psf(c - step)) / 2e-6
        torch.testing.assert_close(slopes[:, k], numeric, rtol=1e-4, atol=1e-8)


def test_fewer_directions_are_the_principal_components():
    family = learn_family(states(50), LOCAL, directions=2)
    assert family.n_coefficients == 4
    assert family.names[:2] == ("defocus", "spherical")
    assert family.names[2].startswith("component 1 (")
    np.testing.assert_allclose(family.metric.matrix, np.eye(4), atol=1e-12)
    truth = states(30, seed=5)
    left = truth - family.learned.modes(family.learned.coefficients(truth))
    # Two directions of the drift: the modes' own noise remains.
    assert np.sqrt((left**2).sum(1).mean()) < 0.012
    assert np.sqrt(((truth - MEAN) ** 2).sum(1).mean()) > 0.03


def test_wide_modes_keep_the_local_prior_and_range(family):
    prior, local = family.prior, LOCAL.prior
    wide = [0, 7]
    np.testing.assert_allclose(
        prior.covariance[:2, :2], local.covariance[np.ix_(wide, wide)]
    )
    assert not prior.covariance[:2, 2:].any()
    assert not prior.mean.any()
    drawn = family.sample(400, torch.Generator().manual_seed(0)).numpy()
    assert np.abs(drawn[:, 0]).max() > 0.9 * LOCAL.half_ranges[0]
    assert prior.admissible.gauge(drawn).max() <= 1 + 1e-6
    # Drawn from the learned prior: of its covariance, not of the wide range.
    np.testing.assert_allclose(
        np.cov(drawn[:, 2:].T), prior.covariance[2:, 2:], atol=1.5e-4
    )
    defocused = np.zeros(8)
    defocused[0] = 2 * LOCAL.half_ranges[0]
    assert prior.admissible.gauge(defocused) == pytest.approx(2)
    points = family.search_points(400, torch.Generator().manual_seed(0)).numpy()
    assert prior.admissible.gauge(points).max() <= 1 + 1e-6
    assert np.cov(points[:, 2:].T).trace() > 1.5 * prior.covariance[2:, 2:].trace()


def test_focus_moves_the_wide_mode(family):
    local = LOCAL.focus_direction
    np.testing.assert_allclose(family.learned.basis @ family.focus_direction, local)
    narrow = learn_family(states(20), LOCAL, directions=2, wide=())
    assert narrow.focus_direction is None


def test_a_learned_mean_breaks_the_symmetries_of_the_data(family):
    """Two γ have the same PSF, but the prior allows one: it is no symmetry."""
    # What is left is the sign of the wide modes, which a search tries.
    (left,) = family.symmetries
    assert left.resolved_by is ResolvedBy.SPECTRUM
    np.testing.assert_array_equal(left.flipped, [True, True] + [False] * 6)
    c = family.sample(3, torch.Generator().manual_seed(0)).double().numpy()
    np.testing.assert_array_equal(family.canonical(c), c)


def test_without_a_mean_the_symmetries_stay():
    """A microscope that is good on average: the prior does not fix the signs."""
    local_symmetries = LOCAL.symmetries
    drift = states(200) - states(200).mean(0)
    family = learn_family(np.concatenate([drift, -drift]), LOCAL)
    # The drift mixes even and odd modes: only all signs may change at once ...
    assert family.symmetries[0].resolved_by is ResolvedBy.IMAGE
    np.testing.assert_allclose(family.symmetries[0].matrix, -np.eye(8), atol=1e-12)
    # ... and if it does not mix them, either may.
    plain = learn_family(np.concatenate([drift * s for s in _signs()]), LOCAL)
    assert [s.resolved_by for s in plain.symmetries] == [
        s.resolved_by for s in local_symmetries
    ]
    c = plain.sample(5, torch.Generator().manual_seed(1)).double()
    psfs = plain.psf(c)
    sign, rotation = plain.symmetries
    torch.testing.assert_close(plain.psf(sign.apply_rows(c)), psfs)
    torch.testing.assert_close(plain.psf(rotation.apply_rows(c)), psfs.flip((-2, -1)))
    other = sign.apply(c.numpy())
    np.testing.assert_allclose(
        plain.canonical(other), plain.canonical(c.numpy()), atol=1e-7
    )


def _signs():
    even = np.where(LOCAL.even, -1.0, 1.0)
    return np.ones(8), even, -even, -np.ones(8)


def test_a_subspace_has_only_symmetries_that_stay_in_it():
    even = np.flatnonzero(LOCAL.even)
    drift = np.zeros((20, 8))
    # Along one direction with an even and an odd part.
    drift[:, [even[1], 3]] = np.random.default_rng(0).normal(size=(20, 1)) * 0.03
    family = learn_family(drift - drift.mean(0), LOCAL, directions=1, wide=())
    assert [s.resolved_by for s in family.symmetries] == [ResolvedBy.IMAGE]
    np.testing.assert_allclose(family.symmetries[0].matrix, [[-1]], atol=1e-9)


def test_reports_speak_of_modes(family):
    change = np.zeros(8)
    change[0] = 0.1
    defocus = np.zeros(8)
    defocus[0] = 0.1
    for shape in ChangeShape:
        assert family.diagnose(change, shape) == LOCAL.diagnose(defocus, shape)
    quality = family.quality(np.zeros(8))
    assert quality == LOCAL.quality(family.learned.mean)
    assert "learned from 20 states" in family.describe()
    assert family.metric.size(change) == pytest.approx(0.1)
    assert family.unit == "waves rms"


def test_it_is_equal_and_hashable_by_its_numbers(family):
    again = learn_family(states(20), LOCAL)
    assert again == family
    assert hash(again) == hash(family)
    copy = pickle.loads(pickle.dumps(family))
    assert copy == family
    assert hash(copy) == hash(family)
    assert learn_family(states(20, seed=1), LOCAL) != family
    assert family.coarse() != family
    assert family.coarse() == again.coarse()


@pytest.mark.parametrize("hull", [False, True])
def test_tensors_there_and_back(hull):
    family = learn_family(states(20), LOCAL, directions=4, hull=hull)
    tensors = family.to_tensors()
    again = CalibratedZernikeFamily.from_tensors(tensors, LOCAL)
    assert again == family
    assert ("vertices" in tensors) == hull


def test_damaged_or_foreign_tensors_are_refused(family):
    tensors = family.to_tensors()
    damage = {
        "no mean in": {"mean": None},
        "basis: shape": {"basis": tensors["basis"][:, 0]},
        "covariance: not finite": {"covariance": tensors["covariance"] * np.nan},
        "covariance: must be positive": {"covariance": -tensors["covariance"]},
        "columns must be orthonormal": {"basis": 2 * tensors["basis"]},
        "must be 0 for the wide": {"mean": tensors["mean"] + 0.1},
        "radius 0": {"radius": torch.tensor(0.0)},
        "first columns must be": {"wide": torch.tensor([0, 3])},
        "different indices below": {"wide": torch.tensor([0, 80])},
        "radius: shape": {"radius": torch.ones(2)},
    }
    for message, change in damage.items():
        wrong = {k: v for k, v in (tensors | change).items() if v is not None}
        with pytest.raises(ValueError, match=message):
            CalibratedZernikeFamily.from_tensors(wrong, LOCAL)
    with pytest.raises(ValueError, match="calibrated for the modes"):
        CalibratedZernikeFamily.from_tensors(tensors, ZernikeFamily())


def test_optics_alone_do_not_make_it():
    with pytest.raises(ValueError, match="learned from measured states"):
        CalibratedZernikeFamily.from_optics(Optics())
