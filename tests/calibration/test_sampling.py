"""MaxiSumMin: exact neighbours, ascent within the set, and the measured spread."""

import numpy as np
import pytest

from deepblur_live.blur import Box
from deepblur_live.blur.convex import Ellipsoid, Hull
from deepblur_live.calibration import sampling
from deepblur_live.calibration.sampling import (
    mean_nearest,
    nearest_neighbours,
    single_pass,
    spread_and_prior,
    sweeps,
)

RNG = np.random.default_rng
BOX = Box(np.array([0.5, 0, -1.0]), np.array([1.0, 2.0, 0.5]))


def in_box(n, seed=0):
    return BOX.centre + BOX.half_width * RNG(seed).uniform(-1, 1, (n, 3))


def test_neighbours_are_exact(monkeypatch):
    """Against all distances in double precision; in several blocks, far from 0."""
    monkeypatch.setattr(sampling, "_BLOCK", 5000)
    points, others = RNG(0).normal(size=(2, 211, 4)) + 100
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    index, distance = nearest_neighbours(points)
    np.testing.assert_array_equal(index, apart.argmin(1))
    np.testing.assert_allclose(distance, apart.min(1))
    apart = np.linalg.norm(points[:, None] - others[None], axis=2)
    index, distance = nearest_neighbours(points, others)
    np.testing.assert_array_equal(index, apart.argmin(1))
    np.testing.assert_allclose(distance, apart.min(1))


def test_a_sweep_follows_the_subgradient():
    """The step of one sweep is along the numerical gradient of the objective."""
    points = in_box(40)
    wide = Box(np.zeros(3), np.full(3, 100.0))
    moved = sweeps(points, wide, 1)
    step = (moved - points).ravel()
    numeric = np.empty(points.size)
    for k in range(points.size):
        change = np.zeros(points.size)
        change[k] = 1e-6
        change = change.reshape(points.shape)
        numeric[k] = mean_nearest(points + change) - mean_nearest(points - change)
    cosine = step @ numeric / np.linalg.norm(step) / np.linalg.norm(numeric)
    assert cosine == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("method", [single_pass, lambda p, c: sweeps(p, c, 15)])
@pytest.mark.parametrize("kind", ["box", "ellipsoid", "hull"])
def test_points_spread_within_the_set(kind, method):
    rng = RNG(1)
    if kind == "box":
        admissible, points = BOX, in_box(200)
    elif kind == "ellipsoid":
        admissible = Ellipsoid(np.ones(3), np.diag([1.0, 0.3, 0.1]), 2.0)
        points = admissible.project(np.ones(3) + rng.normal(size=(200, 3)))
    else:
        admissible = Hull(rng.normal(size=(8, 3)), 1e-2)
        points = rng.dirichlet(np.ones(8), 60) @ admissible.vertices
    before = points.copy()
    spread = method(points, admissible)
    np.testing.assert_array_equal(points, before)
    assert spread.shape == points.shape
    assert admissible.gauge(spread).max() <= 1 + 1e-6
    assert mean_nearest(spread) > 1.3 * mean_nearest(points)


def test_two_points_of_a_line_go_to_its_ends():
    line = Box(np.zeros(1), np.ones(1))
    found = sweeps(np.array([[0.1], [-0.2]]), line)
    np.testing.assert_allclose(np.sort(found.ravel()), [-1, 1])
    np.testing.assert_array_equal(sweeps(np.zeros((3, 1)), line, 2), np.zeros((3, 1)))


def test_it_is_as_even_as_measured_before():
    """A cube of seven dimensions; 0.43, 0.62 and 0.69 with 10 000 points."""
    cube = Box(np.zeros(7), np.ones(7))
    points = RNG(0).uniform(-1, 1, (800, 7))
    uniform = mean_nearest(points)
    assert mean_nearest(single_pass(points, cube)) > 1.35 * uniform
    assert mean_nearest(sweeps(points, cube, 40)) > 1.5 * uniform


def test_half_of_a_training_set_is_the_prior():
    draws = in_box(401)
    points = spread_and_prior(draws, BOX)
    assert points.shape == draws.shape
    np.testing.assert_array_equal(points[:400:2], draws[:200])
    assert mean_nearest(points[1:400:2]) > 1.5 * mean_nearest(draws[200:])
    assert BOX.gauge(points).max() <= 1
