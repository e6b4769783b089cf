"""States → covariance and family: the formula, few states, errors of measurement."""

import numpy as np
import pytest
from calibrated_family import states
from scipy.stats import chi2

from deepblur_live.blur.zernike import SPHERICAL_MODES, ZernikeFamily
from deepblur_live.calibration.learning import learn_family, shrunk_covariance

LOCAL = ZernikeFamily(noll=SPHERICAL_MODES)
LEARNED = slice(2, None)


def test_the_covariance_is_ledoit_and_wolfs():
    """Term by term as in the paper, with n = S - 1 for a mean that is estimated."""
    x = np.random.default_rng(0).normal(size=(9, 5)) * [3, 2, 1, 1, 0.5]
    n, offsets = 8, x - x.mean(0)
    sample = offsets.T @ offsets / n
    level = np.trace(sample) / 5
    d2 = ((sample - level * np.eye(5)) ** 2).sum()
    b2 = sum(((np.outer(row, row) - sample) ** 2).sum() for row in offsets) / n**2
    share = min(1, b2 / d2)
    assert 0.05 < share < 0.95
    found, shrunk = shrunk_covariance(x)
    assert shrunk == pytest.approx(share)
    np.testing.assert_allclose(
        found, (1 - share) * sample + share * level * np.eye(5), atol=1e-12
    )


def test_shrinking_vanishes_with_many_states_and_rescues_few():
    rng = np.random.default_rng(1)
    truth = np.diag([9.0, 4, 1, 0.5, 0.5, 0.5])

    def draw(n):
        return rng.normal(size=(n, 6)) @ np.sqrt(truth)

    many, share = shrunk_covariance(draw(3000))
    assert share < 0.01
    np.testing.assert_allclose(many, truth, atol=0.6)
    errors, plain = [], []
    for _ in range(30):
        few = draw(5)
        found, _ = shrunk_covariance(few)
        assert np.linalg.eigvalsh(found).min() > 0
        errors.append(((found - truth) ** 2).sum())
        plain.append(((np.cov(few.T) - truth) ** 2).sum())
    assert np.mean(errors) < 0.8 * np.mean(plain)
    equal, share = shrunk_covariance(np.ones((4, 3)))
    assert share == 1
    assert not equal.any()


@pytest.mark.parametrize(("count", "least"), [(4, 0.75), (20, 0.95), (200, 0.98)])
def test_new_states_are_admissible_and_expected(count, least):
    """The prior is not narrower than the states it will meet, also from four."""
    held, squares = [], []
    for seed in range(6):
        family = learn_family(states(count, seed=seed), LOCAL)
        new = family.learned.coefficients(states(300, seed=99))
        new[:, :2] = 0
        held.append((family.prior.admissible.gauge(new) <= 1).mean())
        own = family.prior.covariance[LEARNED, LEARNED]
        solved = np.linalg.solve(own, new[:, LEARNED].T).T
        squares.append((solved * new[:, LEARNED]).sum(1).mean() / 6)
        # The measured states themselves are all within.
        measured = family.learned.coefficients(states(count, seed=seed))
        measured[:, :2] = 0
        assert family.prior.admissible.gauge(measured).max() <= 1 + 1e-9
        assert family.learned.radius >= np.sqrt(chi2.ppf(0.99, 6))
    assert np.mean(held) > least
    assert np.mean(squares) < (2.5 if count == 4 else 1.0)


def test_errors_of_the_states_are_taken_off():
    rng = np.random.default_rng(2)
    truth = states(400)
    error = np.diag(np.linspace(0.005, 0.02, 8) ** 2)
    measured = truth + rng.normal(size=truth.shape) @ np.sqrt(error)
    covariances = np.broadcast_to(error, (400, 8, 8))
    plain = learn_family(measured, LOCAL).prior.covariance
    less = learn_family(measured, LOCAL, covariances).prior.covariance
    exact = learn_family(truth, LOCAL).prior.covariance
    assert np.abs(less - exact).max() < 0.5 * np.abs(plain - exact).max()
    # Errors larger than the spread leave a positive covariance.
    huge = learn_family(measured, LOCAL, 100 * covariances).prior.covariance
    assert np.linalg.eigvalsh(huge).min() > 0


def test_the_hull_of_the_states():
    measured = states(30)
    family = learn_family(measured, LOCAL, directions=2, hull=True)
    c = family.learned.coefficients(measured)
    c[:, :2] = 0
    gauges = family.prior.admissible.gauge(c)
    assert gauges.max() == pytest.approx(1)
    # Hulls of few states are too small: many new states are outside.
    new = family.learned.coefficients(states(100, seed=9))
    new[:, :2] = 0
    assert 0.02 < (family.prior.admissible.gauge(new) > 1).mean() < 0.6
    nearest = family.prior.admissible.project(new)
    assert family.prior.admissible.gauge(nearest).max() <= 1 + 1e-6
    assert "hull of the states" in family.describe()


@pytest.mark.parametrize(
    ("wrong", "options", "message"),
    [
        (np.zeros((1, 8)), {}, "at least 2 states"),
        (np.zeros((5, 7)), {}, "shape \\(5, 7\\)"),
        (np.full((5, 8), np.nan), {}, "not finite"),
        (states(5), {"directions": 7}, "from 1 to 6"),
        (states(5), {"directions": 0}, "from 1 to 6"),
        (states(5), {"hull": True}, "at most 4"),
        (states(5), {"covariances": np.zeros((5, 8))}, "of shape \\(5, 8, 8\\)"),
    ],
)
def test_what_cannot_be_learned_is_refused(wrong, options, message):
    with pytest.raises(ValueError, match=message):
        learn_family(wrong, LOCAL, **options)
