"""A Gaussian process of the coefficients: accurate, with an error that is right."""

import numpy as np
import pytest

from deepblur_live.calibration.field import fit_field
from deepblur_live.calibration.trend import fit_trend

SHAPE = (900, 1200)
SCATTER = 1.3


def truth(place):
    """(m, 3): a tilt with a bump, a bowl, and nothing; as for nm."""
    row, column = (place / np.array(SHAPE)).T - 0.5
    bump = 12 * np.exp(-((row - 0.2) ** 2 + (column + 0.1) ** 2) / 0.03)
    return np.stack([10 * row + bump, 20 * (row**2 + column**2), 0 * row], -1)


def beads(count, seed=0):
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 1, (count, 2)) * SHAPE
    return places, truth(places) + SCATTER * rng.normal(size=(count, 3))


TESTED = np.stack(np.meshgrid(*(np.linspace(0.1, 0.9, 12) * n for n in SHAPE)), -1)
TESTED = TESTED.reshape(-1, 2)


@pytest.mark.parametrize(("count", "most"), [(15, 2.3), (40, 1.2), (80, 0.9)])
def test_it_is_nearer_than_a_linear_trend(count, most):
    errors, trends = [], []
    for seed in range(4):
        places, found = beads(count, seed)
        field = fit_field(found, places, SHAPE)
        errors.append(np.abs(field.at(TESTED).mean - truth(TESTED)))
        trend = fit_trend(found, places, SHAPE).at(TESTED)
        trends.append(np.abs(trend - truth(TESTED)))
    assert np.mean(errors) < most
    assert np.mean(errors) < np.mean(trends)


def test_its_errors_are_as_large_as_stated():
    ratios = []
    for seed in range(6):
        places, found = beads(60, seed)
        field = fit_field(found, places, SHAPE)
        value = field.at(TESTED)
        ratios.append((value.mean - truth(TESTED)) / value.sigma)
        assert field.scatter == pytest.approx(SCATTER, rel=0.35)
    assert 0.7 < np.sqrt(np.mean(np.square(ratios))) < 1.4


def test_it_is_the_conditional_mean_of_its_model():
    """By brute force: a polynomial of nearly infinite variance, in one matrix."""
    places, found = beads(30)
    field = fit_field(found, places, SHAPE)
    assert field.ratios[0] > 0
    unit = (np.concatenate([places, TESTED[:5]]) - np.array(SHAPE) / 2) / max(SHAPE)
    apart = np.linalg.norm(unit[:, None] - unit, axis=2) * np.sqrt(3) / field.length
    row, column = unit.T
    design = [row**0, row, column, row**2, row * column, column**2]
    trend = 1e6 * np.einsum("qm,qn->mn", design, design)
    whole = field.ratios[0] * (1 + apart) * np.exp(-apart) + trend
    own = whole[:30, :30] + np.eye(30)
    gain = np.linalg.solve(own, whole[:30, 30:]).T
    value = field.at(TESTED[:5])
    assert value.mean[:, 0] == pytest.approx(gain @ found[:, 0], abs=1e-3)
    left = np.diag(whole[30:, 30:] - gain @ whole[:30, 30:])
    expected = field.scatter[0] * np.sqrt(left)
    assert value.sigma[:, 0] == pytest.approx(expected, rel=1e-2)


def test_places_without_beads_are_known():
    places, found = beads(80)
    kept = places[:, 1] < 0.6 * SHAPE[1]
    field = fit_field(found[kept], places[kept], SHAPE)
    far = field.far(np.array([[450.0, 1150.0], [450.0, 300.0]]))
    assert far.tolist() == [True, False]


def test_what_is_known_to_a_nanometre_is_not_too_far():
    """Beads that agree well must not make the rest of the frame unknown."""
    places, found = beads(13)
    own = np.random.default_rng(1).normal(0, 1e-4, found.shape)
    field = fit_field(0.02 + own, places, SHAPE)
    grid = field.even_places()
    error = np.linalg.norm(field.at(grid).sigma, axis=-1)
    assert error.max() > 2 * np.linalg.norm(field.at(places).sigma, axis=-1).mean()
    assert not field.far(grid).any()


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_few_beads_have_a_mean_or_a_slope(count):
    places, found = beads(count)
    value = fit_field(found, places, SHAPE).at(np.array(SHAPE) / 2)
    assert np.isfinite(value.mean).all()
    assert np.isfinite(value.sigma).all()
    if count < 3:
        assert value.mean == pytest.approx(found.mean(0))
