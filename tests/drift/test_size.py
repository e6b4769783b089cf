"""The size of a change in a metric that correlates the coefficients."""

from __future__ import annotations

import numpy as np
import pytest

from deepblur_live.drift.size import change_size, direction, scatter_size

METRIC = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.5]])
COVARIANCE = np.array([[0.04, 0.01, 0.0], [0.01, 0.02, 0.0], [0.0, 0.0, 0.09]])


def test_size_is_debiased_and_its_deviation_as_simulated():
    rng = np.random.default_rng(0)
    truth = np.array([3.0, -2.0, 4.0])
    exact = np.sqrt(truth @ METRIC @ truth)
    drawn = rng.multivariate_normal(truth, COVARIANCE, 20_000)
    found = np.array([change_size(d, COVARIANCE, METRIC) for d in drawn])
    assert np.mean(found[:, 0] ** 2) == pytest.approx(exact**2, rel=0.005)
    assert np.std(found[:, 0]) == pytest.approx(np.mean(found[:, 1]), rel=0.03)


def test_scatter_size_is_the_rms_size():
    rng = np.random.default_rng(1)
    drawn = rng.multivariate_normal(np.zeros(3), COVARIANCE, 50_000)
    rms = np.sqrt(np.mean(np.einsum("ni,ij,nj->n", drawn, METRIC, drawn)))
    assert scatter_size(COVARIANCE, METRIC) == pytest.approx(rms, rel=0.02)
    assert change_size(np.zeros(3), COVARIANCE, METRIC) == (0.0, 0.0)


def test_component_along_a_difference_is_its_size():
    difference = np.array([1.0, -1.0, 2.0])
    along = direction(difference, METRIC)
    size, _ = change_size(difference, np.zeros((3, 3)), METRIC)
    assert along @ difference == pytest.approx(size)
    # An orthogonal change, in the metric, has no component.
    other = np.array([1.0, 0.0, 0.0])
    other -= (other @ METRIC @ difference) / size**2 * difference
    assert along @ other == pytest.approx(0.0, abs=1e-12)
