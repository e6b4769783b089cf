"""Convex sets: projections against a general solver, gauges against bisection."""

import numpy as np
import pytest
from scipy.optimize import (
    LinearConstraint,
    NonlinearConstraint,
    lsq_linear,
    minimize,
)

from deepblur_live.blur import AdmissibleSet, Box
from deepblur_live.blur.convex import Ellipsoid, Hull, Product, project_on_simplex


def ellipsoid(p, rng, spread=30.0):
    axes = np.linalg.qr(rng.normal(size=(p, p)))[0]
    covariance = (axes * np.geomspace(1 / spread, 1, p) ** 2) @ axes.T
    return Ellipsoid(rng.normal(size=p), covariance, 1.7)


def nearest_in_ellipsoid(shape, point):
    """The quadratic programme with a quadratic constraint, by SLSQP."""
    inverse = np.linalg.inv(shape.covariance)

    def inside(x):
        return (x - shape.centre) @ inverse @ (x - shape.centre) / shape.radius**2

    def slope(x):
        return 2 * inverse @ (x - shape.centre)[:, None] / shape.radius**2

    solved = minimize(
        lambda x: ((x - point) ** 2).sum(),
        shape.centre,
        jac=lambda x: 2 * (x - point),
        constraints=NonlinearConstraint(inside, -np.inf, 1, jac=lambda x: slope(x).T),
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 2000},
    )
    return solved.x


def nearest_in_hull(vertices, point):
    """The quadratic programme over the weights, by SLSQP."""
    count = len(vertices)
    solved = minimize(
        lambda w: ((w @ vertices - point) ** 2).sum(),
        np.full(count, 1 / count),
        jac=lambda w: 2 * vertices @ (w @ vertices - point),
        bounds=[(0, 1)] * count,
        constraints=LinearConstraint(np.ones(count), 1, 1),
        method="SLSQP",
        options={"ftol": 1e-16, "maxiter": 2000},
    )
    return solved.x @ vertices


def test_box_projection_solves_the_quadratic_programme():
    rng = np.random.default_rng(4)
    box = Box(rng.normal(size=5), rng.uniform(0.2, 2.0, 5))
    points = box.centre + 3 * rng.normal(size=(6, 5))
    found = box.project(points)
    for point, nearest in zip(points, found, strict=True):
        sides = (box.centre - box.half_width, box.centre + box.half_width)
        solved = lsq_linear(np.eye(5), point, sides, tol=1e-14)
        np.testing.assert_allclose(nearest, solved.x, atol=1e-6)
    assert box.gauge(found).max() <= 1 + 1e-12
    assert (np.maximum(box.gauge(points), 1) >= box.gauge(found)).all()


@pytest.mark.parametrize("p", [1, 2, 6])
def test_ellipsoid_projection_solves_the_quadratic_programme(p):
    rng = np.random.default_rng(p)
    shape = ellipsoid(p, rng)
    points = shape.centre + rng.normal(size=(6, p)) * np.array([[0.3], [3]] * 3)
    found = shape.project(points)
    for point, nearest in zip(points, found, strict=True):
        expected = nearest_in_ellipsoid(shape, point)
        np.testing.assert_allclose(nearest, expected, atol=2e-5)
        # At least as near, and inside: the general solver is the less precise one.
        assert np.linalg.norm(nearest - point) <= np.linalg.norm(expected - point) + (
            1e-7
        )
    assert shape.gauge(found).max() <= 1 + 1e-10


def test_ellipsoid_projection_is_optimal_far_out_and_for_thin_axes():
    """Optimality itself: the offset is a normal of the border (p = 100)."""
    rng = np.random.default_rng(0)
    shape = ellipsoid(100, rng, spread=1e4)
    points = (
        shape.centre + rng.normal(size=(50, 100)) * np.geomspace(0.1, 1e4, 50)[:, None]
    )
    found = shape.project(points)
    assert shape.gauge(found).max() <= 1 + 1e-9
    outside = shape.gauge(points) > 1
    assert outside.sum() > 10
    normal = np.linalg.solve(shape.covariance, (found - shape.centre).T).T[outside]
    offset = (points - found)[outside]
    cosine = (normal * offset).sum(1)
    cosine /= np.linalg.norm(normal, axis=1) * np.linalg.norm(offset, axis=1)
    np.testing.assert_allclose(cosine, 1, atol=1e-6)
    np.testing.assert_array_equal(found[~outside], shape.project(found[~outside]))


def test_flat_ellipsoid():
    flat = Ellipsoid(np.zeros(3), np.diag([4.0, 1.0, 0.0]), 1.0)
    np.testing.assert_allclose(flat.project(np.array([5.0, 0, 3])), [2, 0, 0])
    np.testing.assert_allclose(flat.project(np.array([1.0, 0.5, 3])), [1, 0.5, 0])
    gauges = flat.gauge(np.array([[1.0, 0, 0], [0, 0, 1e-3]]))
    np.testing.assert_allclose(gauges, [0.5, np.inf])
    point = Ellipsoid(np.ones(2), np.zeros((2, 2)), 1.0)
    np.testing.assert_allclose(point.project(np.array([3.0, 2])), [1, 1])


@pytest.mark.parametrize(("count", "p"), [(12, 3), (20, 6), (4, 6)])
def test_hull_projection_solves_the_quadratic_programme(count, p):
    rng = np.random.default_rng(count)
    hull = Hull(rng.normal(size=(count, p)) + 2)
    points = hull.centre + rng.normal(size=(2, 3, p)) * np.array([0.3, 2, 8])[:, None]
    found = hull.project(points)
    assert found.shape == points.shape
    for point, nearest in zip(points.reshape(-1, p), found.reshape(-1, p), strict=True):
        expected = nearest_in_hull(hull.vertices, point)
        np.testing.assert_allclose(nearest, expected, atol=2e-5 * hull.size + 1e-5)
    weights = hull.weights(points.reshape(-1, p))
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1)


def test_hull_of_many_states_to_its_tolerance():
    """Against the exact solution of a much finer tolerance."""
    rng = np.random.default_rng(1)
    vertices = rng.normal(size=(150, 40))
    points = 2 * rng.normal(size=(5, 40))
    exact = Hull(vertices, 1e-7).project(points)
    rough = Hull(vertices, 1e-3)
    error = np.linalg.norm(rough.project(points) - exact, axis=1)
    assert error.max() <= 1e-3 * rough.size
    single = Hull(vertices, 1e-3).project(points.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=2e-3 * rough.size)


def test_degenerate_hulls():
    one = Hull(np.array([[1.0, 2.0]]))
    np.testing.assert_allclose(one.project(np.array([[5.0, 5], [1, 2]])), [[1, 2]] * 2)
    np.testing.assert_allclose(one.gauge(np.array([[5.0, 5], [1, 2]])), [np.inf, 0])
    # A square in the plane x₃ = 1, with a vertex given twice.
    square = np.array([[0.0, 0, 1], [2, 0, 1], [2, 2, 1], [0, 2, 1], [0, 2, 1]])
    hull = Hull(square)
    np.testing.assert_allclose(
        hull.project(np.array([[1.0, 1, 5], [3, 1, 0]])),
        [[1, 1, 1], [2, 1, 1]],
        atol=1e-4,
    )
    assert hull.gauge(np.array([1.0, 1, 1.1])) == np.inf
    assert hull.gauge(hull.centre) == pytest.approx(0, abs=1e-12)
    assert hull.gauge(np.array([2.0, 1.0, 1.0])) == pytest.approx(1)


def test_hull_gauge_is_where_the_border_is():
    """By bisection on whether the projection moves a point."""
    rng = np.random.default_rng(2)
    hull = Hull(rng.normal(size=(15, 3)), 1e-6)
    points = hull.centre + rng.normal(size=(3, 3))
    for point, gauge in zip(points, hull.gauge(points), strict=True):
        low, high = 0.0, 20.0
        for _ in range(20):
            scale = (low + high) / 2
            tried = hull.centre + scale * (point - hull.centre)
            moved = np.linalg.norm(hull.project(tried) - tried) > 1e-4
            low, high = (low, scale) if moved else (scale, high)
        assert gauge == pytest.approx(1 / low, rel=1e-3)


def test_product_of_sets():
    box = Box(np.zeros(1), np.array([0.5]))
    ball = Ellipsoid(np.zeros(2), np.eye(2), 2.0)
    both = Product((((1,), box), ((0, 2), ball)))
    point = np.array([3.0, 1.0, 4.0])
    np.testing.assert_allclose(both.project(point), [1.2, 0.5, 1.6])
    np.testing.assert_array_equal(point, [3, 1, 4])
    np.testing.assert_allclose(both.gauge(np.stack([point, point / 10])), [2.5, 0.25])
    with pytest.raises(ValueError, match="one group"):
        Product((((0,), box), ((0, 2), ball)))


def test_simplex_and_idempotence():
    rng = np.random.default_rng(3)
    rows = project_on_simplex(3 * rng.normal(size=(20, 5)))
    np.testing.assert_allclose(rows.sum(1), 1)
    np.testing.assert_allclose(project_on_simplex(rows), rows, atol=1e-12)
    sets: list[AdmissibleSet] = [ellipsoid(4, rng), Hull(rng.normal(size=(9, 4)), 1e-7)]
    for convex in sets:
        found = convex.project(5 * rng.normal(size=(20, 4)))
        np.testing.assert_allclose(convex.project(found), found, atol=1e-5)
        assert convex.gauge(found).max() <= 1 + 1e-6
